package rule

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// metadataValue is a value for a key.
type metadataValue struct {
	key    string
	value  *expression
	add    bool // to the others
	binary bool
}

// metadata compiles the changes of metadata.
func (b *builder) metadata() {
	m := &b.rule.Metadata
	for i, key := range m.Remove {
		b.key(fmt.Sprintf("metadata.remove[%d]", i), key)
		b.program.removes = append(b.program.removes, key)
	}
	b.program.metadata = append(b.values("metadata.set", m.Set, false), b.values("metadata.add", m.Add, true)...)
}

// values compiles values of metadata, in the order of their keys.
func (b *builder) values(field string, values map[string]string, add bool) []metadataValue {
	var all []metadataValue
	seen := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		field := field + "." + key
		b.key(field, key)
		if other, again := seen[strings.ToLower(key)]; again {
			b.addf(field, "is the same key as %q", other)
		}
		seen[strings.ToLower(key)] = key
		v := metadataValue{key: key, add: add, binary: strings.HasSuffix(strings.ToLower(key), "-bin")}
		want := []*cel.Type{types.StringType}
		if v.binary {
			want = append(want, types.BytesType)
		}
		if v.value = b.typed(field, values[key], want...); v.value != nil {
			all = append(all, v)
		}
	}
	return all
}

// key checks a key of metadata.
func (b *builder) key(field, key string) {
	if err := new(filter.Metadata).Set(key); err != nil {
		b.addf(field, "%s", err.Error())
	}
}

// text returns a value as metadata has it.
func (m *metadataValue) text(v ref.Val) (string, error) {
	var text string
	switch v := v.(type) {
	case types.String:
		text = string(v)
	case types.Bytes:
		if !m.binary {
			return "", errType(v, "string")
		}
		text = string(v)
	default:
		return "", errType(v, "string")
	}
	switch {
	case len(text) > MaxValue:
		return "", failure(fmt.Sprintf("the value is longer than %d bytes", MaxValue))
	case !m.binary && strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }):
		return "", errPrintable
	}
	return text, nil
}

func (p *program) sendMetadata(r *run) error {
	m := p.target(r.call)
	for _, key := range p.removes {
		if err := m.Remove(key); err != nil {
			return err
		}
	}
	for i, v := range p.metadata {
		change := m.Set
		if v.add {
			change = m.Add
		}
		if err := change(v.key, r.metadata[i]); err != nil {
			return err
		}
	}
	return nil
}

// target returns the metadata that goes out next.
func (p *program) target(c *filter.Call) *filter.Metadata {
	switch p.at {
	case filter.AtHeader:
		return c.ResponseHeader()
	case filter.AtEnd:
		return c.ResponseTrailer()
	}
	return c.RequestHeader()
}
