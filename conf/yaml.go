package conf

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The YAML parser makes a token of about 300 bytes at each mark, recurses once
// for each level and for each entry of a block map, and moves all tokens that
// follow where a value is missing. These bounds keep it within seconds and some
// hundred megabytes, whatever the file.
const (
	marks      = "[]{},:-?#&*!|>'\"%@`"
	maxMarks   = 100_000
	maxDepth   = 20
	maxEntries = 10_000 // of one list or map
)

// parseYAML returns the map that the only document in data is, or nil after
// reporting why there is none. The tree holds nothing but maps, lists and
// scalars: what YAML has beyond those is an error, because a configuration
// should mean what it looks like, and because aliases can make a small file
// very large.
func parseYAML(r *report, data []byte) ast.Node {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // byte order mark
	if !checkText(r, data) {
		return nil
	}
	tokens := withoutComments(lexer.Tokenize(string(data)))
	if !checkTokens(r, tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntaxError(err)
		return nil
	}
	if len(file.Docs) == 0 || isNull(file.Docs[0].Body) {
		r.badFile(0, 0, "the file holds no configuration", "copy conf/proxy.yaml and change it")
		return nil
	}
	root := file.Docs[0].Body
	if kindOf(root) != kindMap {
		at := startOf(root)
		r.badFile(at.Line, at.Column, "the file is not a map", `write "key: value" lines, such as "listeners:"`)
		return nil
	}
	return root
}

// checkText refuses what is not text, which the parser would take as part of a
// value, and what has too much structure.
func checkText(r *report, data []byte) bool {
	line, column, found := 1, 1, 0
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		switch {
		case c == utf8.RuneError && size == 1:
			r.badFile(line, column, "the file is not UTF-8 text", "save it in UTF-8")
			return false
		case c == '\n':
			line, column = line+1, 0
		case unicode.IsControl(c) && c != '\t' && c != '\r':
			r.badFile(line, column, "the file has the control character "+strconv.QuoteRune(c), "remove it")
			return false
		case strings.ContainsRune(marks, c):
			found++
		}
		column++
		data = data[size:]
	}
	if found > maxMarks {
		r.badFile(0, 0, "the file holds more than "+strconv.Itoa(maxMarks)+` marks such as ":" and "-"`, "check that it is the right file")
		return false
	}
	return true
}

func withoutComments(tokens token.Tokens) token.Tokens {
	var kept token.Tokens
	for _, t := range tokens {
		if t.Type != token.CommentType {
			kept = append(kept, t)
		}
	}
	return kept
}

// refused are the marks of YAML's features beyond maps, lists and scalars.
var refused = map[token.Type]struct{ problem, hint string }{
	token.AnchorType:     {`anchors ("&name") are not supported`, `write the value out where it is used, or put text that begins with "&" in quotes`},
	token.AliasType:      {`aliases ("*name") are not supported`, `write the value out, or put text that begins with "*" in quotes`},
	token.MergeKeyType:   {`merge keys ("<<") are not supported`, "write the keys out"},
	token.TagType:        {`tags ("!name") are not supported`, `remove it, or put text that begins with "!" in quotes`},
	token.DirectiveType:  {`directives ("%name") are not supported`, `remove the line, or put text that begins with "%" in quotes`},
	token.MappingKeyType: {`keys marked with "?" are not supported`, `write "key: value"`},
}

// checkTokens reports the first token that has no place in a configuration, or
// that exceeds a bound.
func checkTokens(r *report, tokens token.Tokens) bool {
	var n nesting
	for i, t := range tokens {
		line, column := t.Position.Line, t.Position.Column
		feature, isRefused := refused[t.Type]
		switch {
		case isRefused:
			r.badFile(line, column, feature.problem, feature.hint)
		case startsDocument(tokens, i):
			r.badFile(line, column, "a second YAML document begins here", "keep one document in the file")
		case n.pairInBrackets(t):
			key := tokens[max(0, i-1)].Position
			r.badFile(key.Line, key.Column, `a "key: value" pair stands in brackets`, `close them with "]" before it, or put text that holds ":" in quotes`)
		case n.enter(tokens, i) > maxDepth:
			r.badFile(line, column, "more than "+strconv.Itoa(maxDepth)+" levels inside one another", "nothing here needs that many")
		case n.entries() > maxEntries:
			r.badFile(line, column, "more than "+strconv.Itoa(maxEntries)+" entries in one list or map", "make it smaller")
		default:
			continue
		}
		return false
	}
	return true
}

// startsDocument tells whether the token begins another document: a "---" that
// is not at the beginning, or anything after "...".
func startsDocument(tokens token.Tokens, i int) bool {
	if i == 0 {
		return false
	}
	return tokens[i].Type == token.DocumentHeaderType || tokens[i-1].Type == token.DocumentEndType
}

// nesting follows how deep tokens are nested before they are parsed.
type nesting struct {
	flow   []token.Type // the open "[" and "{"
	blocks []block      // the block lists and maps around the token
}

// block is a list or a map whose entries begin in the same column.
type block struct{ column, entries int }

// enter takes the next token and returns how many levels are open.
func (n *nesting) enter(tokens token.Tokens, i int) int {
	switch tokens[i].Type {
	case token.SequenceStartType, token.MappingStartType:
		n.flow = append(n.flow, tokens[i].Type)
	case token.SequenceEndType, token.MappingEndType:
		n.flow = n.flow[:max(0, len(n.flow)-1)]
	case token.SequenceEntryType:
		n.entry(tokens[i])
	case token.MappingValueType:
		if len(n.flow) == 0 && i > 0 { // the key is the token before the colon
			n.entry(tokens[i-1])
		}
	}
	return len(n.flow) + len(n.blocks)
}

// pairInBrackets tells whether t is the colon of a map of one pair without
// braces: [a: b]. No key takes such a thing, the parser needs very long for many
// of them, and it sees one by mistake in {instances: [127.0.0.1:9000]}.
func (n *nesting) pairInBrackets(t *token.Token) bool {
	open := len(n.flow)
	return t.Type == token.MappingValueType && open > 0 && n.flow[open-1] == token.SequenceStartType
}

// entry counts an entry of the block that begins in the token's column; blocks
// that begin further right end with it.
func (n *nesting) entry(t *token.Token) {
	column := t.Position.Column
	for len(n.blocks) > 0 && n.blocks[len(n.blocks)-1].column > column {
		n.blocks = n.blocks[:len(n.blocks)-1]
	}
	if len(n.blocks) == 0 || n.blocks[len(n.blocks)-1].column < column {
		n.blocks = append(n.blocks, block{column: column})
	}
	n.blocks[len(n.blocks)-1].entries++
}

// entries returns the number of entries so far in the innermost block.
func (n *nesting) entries() int {
	if len(n.blocks) == 0 {
		return 0
	}
	return n.blocks[len(n.blocks)-1].entries
}

// syntaxHints says what to do about the parser's terser messages. They are not
// part of its API: a hint is lost, no more, when one changes.
var syntaxHints = map[string]string{
	"found character '\t' that cannot start any token":                   "use spaces for indentation",
	"value is not allowed in this context":                               "check the indentation of this line and of those above",
	"value is not allowed in this context. map key-value is pre-defined": "check the indentation of this line and of those above",
	"mapping value is not allowed in this context":                       `check the indentation, and put a value that holds ": " in quotes`,
	"non-map value is specified":                                         `write "key: value"`,
	"unexpected key name":                                                `write "key: value", with the key on one line`,
	"block sequence entries are not allowed in this context":             "begin the list on a line of its own",
	"could not find end character of double-quoted text":                 "close the quotes",
	"could not find end character of single-quoted text":                 "close the quotes",
	"could not find flow mapping end token '}'":                          `close it with "}"`,
	"sequence end token ']' not found":                                   `close it with "]"`,
	"'@' is a reserved character":                                        "put the value in quotes",
	"'`' is a reserved character":                                        "put the value in quotes",
	"could not find '[' character corresponding to ']'":                  "remove it, or put the value in quotes",
	"could not find '{' character corresponding to '}'":                  "remove it, or put the value in quotes",
}

func (r *report) syntaxError(err error) {
	var detail yaml.Error
	if !errors.As(err, &detail) {
		r.badFile(0, 0, "not valid YAML: "+err.Error(), "")
		return
	}
	message, line, column := detail.GetMessage(), 0, 0
	if t := detail.GetToken(); t != nil {
		line, column = t.Position.Line, t.Position.Column
	}
	r.badFile(line, column, "not valid YAML: "+strings.ReplaceAll(message, "\t", `\t`), syntaxHints[message])
}
