package discovery

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/kitexproxy/kitexproxy/conf"
)

const (
	// maxMarks bounds the tokens of a file, of about 300 bytes each.
	maxMarks = 200_000
	marks    = "[]{},:-?#&*!|>'\"%@`"

	// defaultWeight is the weight of listed instances, as in conf.Cluster.Weights,
	// and maxListedWeight the largest.
	defaultWeight   = 1
	maxListedWeight = 1000

	listHint  = `write each instance on a line of its own: - "host:port", or - {address: "host:port", weight: 1}`
	entryHint = `write "host:port" in quotes, or a map with "address" and "weight"`
)

// parseList returns the instances that a file lists, in YAML or in JSON: addresses, or
// maps with "address" and "weight". The error is a *conf.Error for the first thing
// that is wrong; name stands for the file in it.
func parseList(name string, data []byte) ([]discovery.Instance, error) {
	list, problem := parseInstances(bytes.TrimPrefix(data, []byte("\ufeff"))) // byte order mark
	if problem != nil {
		problem.File = name
		return nil, problem
	}
	return list, nil
}

func parseInstances(data []byte) ([]discovery.Instance, *conf.Error) {
	entries, problem := parseEntries(data)
	if problem != nil {
		return nil, problem
	}
	instances := make([]discovery.Instance, 0, len(entries))
	for i, entry := range entries {
		in, problem := parseEntry(entry)
		if problem != nil {
			problem.Field = conf.ItemPath("", i)
			return nil, problem
		}
		instances = append(instances, in)
	}
	return instances, nil
}

// parseEntries returns the entries of the list that is the only document in data.
func parseEntries(data []byte) ([]ast.Node, *conf.Error) {
	count := 0
	for _, c := range data {
		if strings.IndexByte(marks, c) >= 0 {
			count++
		}
	}
	switch {
	case !utf8.Valid(data), bytes.ContainsRune(data, 0):
		return nil, &conf.Error{Problem: "the file is not UTF-8 text", Hint: "save it in UTF-8"}
	case count > maxMarks:
		return nil, &conf.Error{Problem: "the file has too many marks such as \":\" and \"-\"", Hint: "check that it is the right file"}
	}
	tokens, problem := checkTokens(lexer.Tokenize(string(data)))
	if problem != nil {
		return nil, problem
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(err)
	}
	if len(file.Docs) == 0 || isNull(file.Docs[0].Body) {
		return nil, &conf.Error{Problem: "the file lists no instances", Hint: listHint}
	}
	list, ok := file.Docs[0].Body.(*ast.SequenceNode)
	switch {
	case !ok:
		return nil, wrongAt(file.Docs[0].Body.GetToken(), "the file is not a list", listHint)
	case len(list.Values) == 0:
		return nil, wrongAt(list.GetToken(), "the list has no instances", listHint)
	}
	return list.Values, nil
}

// checkTokens returns tokens without comments, unless they cannot be a list of
// instances. What the parser would take very long for, or recurse very deep, is among
// that.
func checkTokens(tokens token.Tokens) (token.Tokens, *conf.Error) {
	tokens = slices.DeleteFunc(tokens, func(t *token.Token) bool { return t.Type == token.CommentType })
	var s shape
	for i := range tokens {
		if problem := s.take(tokens, i); problem != "" {
			return nil, wrongAt(tokens[i], problem, entryHint)
		}
	}
	return tokens, nil
}

// shape follows what tokens are in.
type shape struct {
	open []token.Type // the brackets around the token
	keys int          // of the entry so far
}

// take takes the next token, and returns what is wrong with it; "" if nothing is.
func (s *shape) take(tokens token.Tokens, i int) (problem string) {
	switch t := tokens[i]; t.Type {
	case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.DirectiveType, token.MappingKeyType:
		return "anchors, aliases, tags and the like are not supported"
	case token.DocumentHeaderType, token.DocumentEndType:
		if i > 0 {
			return "a second document begins here"
		}
	case token.SequenceStartType, token.MappingStartType:
		s.open, s.keys = append(s.open, t.Type), 0
		if len(s.open) > 2 {
			return "brackets stand in brackets"
		}
	case token.SequenceEndType, token.MappingEndType:
		s.open = s.open[:max(0, len(s.open)-1)]
	case token.SequenceEntryType:
		s.keys = 0
		if i > 0 && tokens[i-1].Type == t.Type {
			return "a list entry is empty, or a list itself"
		}
	case token.MappingValueType:
		s.keys++
		return s.takeColon(tokens, i)
	}
	return ""
}

func (s *shape) takeColon(tokens token.Tokens, i int) (problem string) {
	switch {
	case s.keys > 2:
		return "an instance has more than two keys"
	case len(s.open) > 0 && s.open[len(s.open)-1] == token.SequenceStartType:
		return `a "key: value" pair stands in brackets`
	case i+1 == len(tokens) || tokens[i+1].Position.Line != tokens[i].Position.Line:
		return "a key has no value on its line"
	}
	return ""
}

// parseEntry returns the instance that an entry of the list is.
func parseEntry(entry ast.Node) (discovery.Instance, *conf.Error) {
	fields, ok := entry.(ast.MapNode)
	if !ok {
		address, problem := parseListed(entry)
		return listed(address, defaultWeight), problem
	}
	address, weight, seen := "", defaultWeight, map[string]bool{}
	for iter := fields.MapRange(); iter.Next(); {
		key := iter.Key().GetToken()
		var problem *conf.Error
		switch {
		case seen[key.Value]:
			problem = wrongAt(key, "the instance has "+show(key.Value)+" twice", "keep one of the two")
		case key.Value == "address":
			address, problem = parseListed(iter.Value())
		case key.Value == "weight":
			weight, problem = parseWeight(iter.Value())
		default:
			problem = wrongAt(key, "unknown key "+show(key.Value), entryHint)
		}
		if problem != nil {
			return nil, problem
		}
		seen[key.Value] = true
	}
	if !seen["address"] {
		return nil, wrongAt(entry.GetToken(), "the instance has no address", entryHint)
	}
	return listed(address, weight), nil
}

func listed(address string, weight int) discovery.Instance {
	network, rest := conf.SplitAddress(address)
	return discovery.NewInstance(network, rest, weight, nil)
}

// parseListed returns the address that a node is.
func parseListed(node ast.Node) (string, *conf.Error) {
	text, ok := node.(*ast.StringNode)
	if !ok {
		return "", wrongAt(node.GetToken(), "the address is not plain text", entryHint)
	}
	address, err := parseAddress(text.Value)
	if err != nil {
		return "", wrongAt(node.GetToken(), err.Error(), "")
	}
	return address, nil
}

func parseWeight(node ast.Node) (int, *conf.Error) {
	written := node.GetToken().Value
	weight, err := strconv.Atoi(written)
	_, isInteger := node.(*ast.IntegerNode)
	if !isInteger || err != nil || weight < 0 || weight > maxListedWeight {
		return 0, wrongAt(node.GetToken(), "the weight "+show(written)+" is not a whole number from 0 to 1000",
			"write digits only, such as 10")
	}
	return weight, nil
}

func isNull(node ast.Node) bool {
	_, is := node.(*ast.NullNode)
	return node == nil || is
}

// wrongAt returns a problem with what begins with a token.
func wrongAt(t *token.Token, problem, hint string) *conf.Error {
	return &conf.Error{Line: t.Position.Line, Column: t.Position.Column, Problem: problem, Hint: hint}
}

// syntaxError returns what the parser says, with the place as ours have it.
func syntaxError(err error) *conf.Error {
	var detail yaml.Error
	if errors.As(err, &detail) && detail.GetToken() != nil {
		return wrongAt(detail.GetToken(), "not valid YAML: "+detail.GetMessage(), listHint)
	}
	return &conf.Error{Problem: "not valid YAML: " + err.Error(), Hint: listHint}
}
