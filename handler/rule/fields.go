package rule

import (
	"fmt"
	"maps"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// assignment is a value for a field.
type assignment struct {
	path  path
	value *expression
}

// sets compiles the fields to be set, in the order of their paths, which decides
// nothing: no two may overlap.
func (b *builder) sets() {
	for _, text := range slices.Sorted(maps.Keys(b.rule.Set)) {
		field := "set." + text
		a := assignment{}
		if a.path = b.path(field, text, false); a.path != nil {
			for _, other := range b.program.sets {
				if why := conflict(a.path, other.path); why != "" {
					b.addf(field, "%s", why)
				}
			}
		}
		e, wrong := b.compile(field, b.rule.Set[text])
		for _, w := range wrong {
			b.add(w)
		}
		if a.value = e; e == nil || a.path == nil {
			continue
		}
		b.assignable(field, &a)
		b.program.sets = append(b.program.sets, a)
	}
}

// assignable checks the type of a value, and the value itself where it is known.
func (b *builder) assignable(field string, a *assignment) {
	fd, e := a.path.last(), a.value
	if !accepts(fd, e.t) {
		wrong := &Error{
			Field:   field,
			Problem: fmt.Sprintf("the field is of type %s, and the expression %s", typeName(fd), cel.FormatCELType(e.t)),
		}
		switch {
		case e.t.Kind() == types.IntKind && acceptsSingular(fd, types.DoubleType):
			wrong.Hint = "a double is written 5.0, and double(x) converts"
		case e.t.Kind() == types.OpaqueKind && len(e.t.Parameters()) == 1 && accepts(fd, e.t.Parameters()[0]):
			wrong.Hint = "use .orValue(...)"
		}
		b.add(wrong)
		return
	}
	if e.literal == nil {
		return
	}
	if _, err := b.schema.convert(fd, e.literal); err != nil {
		wrong := &Error{Field: field, Problem: err.Error()}
		if name, ok := e.literal.(types.String); ok && fd.Enum() != nil {
			wrong.Hint = didYouMean(string(name), enumNames(fd.Enum()))
		}
		b.add(wrong)
	}
}

func enumNames(enum protoreflect.EnumDescriptor) []string {
	names := make([]string, enum.Values().Len())
	for i := range names {
		names[i] = string(enum.Values().Get(i).Name())
	}
	return names
}

// paths parses a list of paths. check returns the path to use, or what is wrong.
func (b *builder) paths(list string, texts []string, check func(p path) (path, *Error)) []path {
	var all []path
	for i, text := range texts {
		field := fmt.Sprintf("%s[%d]", list, i)
		p := b.path(field, text, list == "redact")
		if p == nil {
			continue
		}
		p, e := check(p)
		if e != nil {
			e.Field = field
			b.add(e)
			continue
		}
		all = append(all, p)
	}
	return all
}

// path returns the path of a text, nil if it is wrong or nothing is known of the
// message.
func (b *builder) path(field, text string, elements bool) path {
	var p path
	var e *Error
	if b.message == nil {
		e = checkPath(text)
	} else {
		p, e = parsePath(b.message, text, elements)
	}
	if e != nil {
		e.Field = field
		b.add(e)
		return nil
	}
	return p
}

func (b *builder) clearable(p path) (path, *Error) {
	if p.last().Cardinality() == protoreflect.Required {
		return nil, &Error{Problem: fmt.Sprintf("%s is required, and cannot be cleared", p)}
	}
	for _, s := range b.program.sets {
		if p.contains(s.path) || s.path.contains(p) {
			return nil, &Error{Problem: fmt.Sprintf("%s is set as well", s.path)}
		}
	}
	return p, nil
}

// redactable takes the value in a wrapper for the wrapper.
func (b *builder) redactable(p path) (path, *Error) {
	value := p.last()
	if value.IsMap() {
		value = value.MapValue()
	}
	longer := p
	if m := value.Message(); m != nil && wrapped(m) != nil {
		value = wrapped(m)
		longer = append(longer, value)
	}
	if value.Kind() != protoreflect.StringKind && value.Kind() != protoreflect.BytesKind {
		return nil, &Error{
			Problem: fmt.Sprintf("%s is of type %s, and only strings and bytes can be redacted", p, typeName(p.last())),
			Hint:    "use clear",
		}
	}
	return longer, nil
}
