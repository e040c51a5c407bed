package openapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/gateway/binding"
)

// template is a path in the form that OpenAPI has for it, where a parameter lies in
// one segment: "/v1/{name=shelves/*}:open" is "/v1/shelves/{name}:open". A parameter
// for all of "shelves/*" would do for nobody, since OpenAPI has slashes in parameters
// sent as %2F.
type template struct {
	path   string
	params []wildcard
}

// wildcard is a segment of a path that is not fixed.
type wildcard struct {
	name  string            // in the path
	of    *binding.Variable // nil if the path asks for a segment and makes nothing of it
	whole bool              // it is the variable, and not a part of it
	deep  bool              // it may have slashes
}

func newTemplate(t *binding.Template) *template {
	var made template
	segments := slices.Clone(t.Segments)
	for i, s := range segments {
		if s == "*" || s == "**" {
			segments[i] = made.add(s, t, i)
		}
	}
	made.path = "/" + strings.Join(segments, "/")
	if t.Verb != "" {
		made.path += ":" + t.Verb
	}
	return &made
}

// add adds the i-th segment of a template, and returns what stands for it in the path.
func (t *template) add(segment string, from *binding.Template, i int) string {
	w := wildcard{name: "wildcard", deep: segment == "**"}
	for _, v := range from.Variables {
		if v.First <= i && i < v.First+v.Len {
			w.name, w.of, w.whole = v.Path, &v, v.Len == 1
		}
	}
	base := w.name
	for n := 2; slices.ContainsFunc(t.params, func(p wildcard) bool { return p.name == w.name }); n++ {
		w.name = fmt.Sprintf("%s_%d", base, n)
	}
	t.params = append(t.params, w)
	return "{" + w.name + "}"
}

// paths are those of a document. Two that differ in the names of parameters only are
// the same for OpenAPI.
type paths struct {
	items map[string]pathItem
	same  map[string]*template // by the path without names
}

func newPaths() *paths { return &paths{make(map[string]pathItem), make(map[string]*template)} }

var parameterNames = regexp.MustCompile(`\{[^{}]*\}`)

// at returns the item of a path, for which it gives the parameters of t the names
// that they have there already.
func (p *paths) at(t *template) pathItem {
	key := parameterNames.ReplaceAllLiteralString(t.path, "{}")
	first := p.same[key]
	if first == nil {
		p.same[key], p.items[t.path] = t, make(pathItem)
		return p.items[t.path]
	}
	for i := range t.params {
		t.params[i].name = first.params[i].name
	}
	return p.items[first.path]
}

// pathParameter returns the parameter of a wildcard.
func (s *schemas) pathParameter(w wildcard, from *binding.Template) *parameter {
	p := &parameter{Name: w.name, In: "path", Required: true, Schema: &schema{Type: "string"}}
	if w.of != nil {
		s.describe(p, w, from)
	}
	switch {
	case w.deep:
		p.Description = paragraphs(p.Description, "It may have slashes.")
	case p.Schema.Type == "string" && p.Schema.Format == "" && p.Schema.Pattern == "":
		p.Schema.Pattern = "^[^/]+$"
	}
	return p
}

// describe has a parameter say what it is for the variable that it is of.
func (s *schemas) describe(p *parameter, w wildcard, from *binding.Template) {
	f := w.of.Fields[len(w.of.Fields)-1]
	p.Description, p.Deprecated = comment(f), deprecated(f)
	switch {
	case !w.whole:
		part := fmt.Sprintf("A part of `%s`, which is `%s`.", w.of.Path, from.Pattern(*w.of))
		p.Description = paragraphs(p.Description, part)
	case w.name != w.of.Path: // another method was the first to name it
		p.Description = paragraphs(p.Description, fmt.Sprintf("It is the field `%s`.", w.of.Path))
		fallthrough
	default:
		p.Schema = s.field(f)
	}
	if w.whole && f.IsList() {
		p.Style, p.Explode = "simple", new(false) // a,b
	}
}

// bound returns the fields that a path gives values, but for those in messages that
// lie deeper than anybody reads: each level is written out.
func bound(t *binding.Template) []string {
	const deepest = 8
	var all []string
	for _, v := range t.Variables {
		if len(v.Fields) <= deepest {
			all = append(all, v.Path)
		}
	}
	return all
}

// below returns those of the names that lie in the message f, by their names there.
func below(names []string, f protoreflect.FieldDescriptor) []string {
	var deeper []string
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, string(f.Name())+"."); ok {
			deeper = append(deeper, rest)
		}
	}
	return deeper
}
