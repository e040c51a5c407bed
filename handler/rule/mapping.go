package rule

import (
	"cmp"
	"math"
	"reflect"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// entries are what a mapping maps.
type entries interface {
	// find returns the value of a key, false if there is none.
	find(key ref.Val) (ref.Val, bool)
	// keys returns all keys in order, so that expressions that loop over them
	// have the same value each time.
	keys() []ref.Val
	len() int
}

// mapping is a map in CEL whose values are made when they are asked for.
type mapping[E entries] struct{ entries E }

// Find returns the value of a key, false if there is none.
func (m *mapping[E]) Find(key ref.Val) (ref.Val, bool) { return m.entries.find(key) }

// Get returns the value of a key, or an error.
func (m *mapping[E]) Get(key ref.Val) ref.Val {
	if v, ok := m.entries.find(key); ok {
		return v
	}
	return types.WrapErr(errNoKey)
}

// Contains reports whether there is a key.
func (m *mapping[E]) Contains(key ref.Val) ref.Val {
	_, ok := m.entries.find(key)
	return types.Bool(ok)
}

// Size returns the number of keys.
func (m *mapping[E]) Size() ref.Val { return types.Int(m.entries.len()) }

// IsZeroValue reports whether there are no keys.
func (m *mapping[E]) IsZeroValue() bool { return m.entries.len() == 0 }

// Iterator iterates over the keys.
func (m *mapping[E]) Iterator() traits.Iterator {
	return types.NewRefValList(types.DefaultTypeAdapter, m.entries.keys()).Iterator()
}

// Equal reports whether other has the same keys and values.
func (m *mapping[E]) Equal(other ref.Val) ref.Val {
	o, ok := other.(traits.Mapper)
	if !ok || o.Size() != m.Size() {
		return types.False
	}
	for _, k := range m.entries.keys() {
		v, _ := m.entries.find(k)
		w, found := o.Find(k)
		if !found || types.Equal(v, w) != types.True {
			return types.False
		}
	}
	return types.True
}

// ConvertToNative converts the map as CEL does any other.
func (m *mapping[E]) ConvertToNative(t reflect.Type) (any, error) {
	all := make(map[ref.Val]ref.Val, m.entries.len())
	for _, k := range m.entries.keys() {
		all[k], _ = m.entries.find(k)
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, all).ConvertToNative(t)
}

// ConvertToType returns the type, or the map itself.
func (m *mapping[E]) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.MapType:
		return m
	case types.TypeType:
		return types.MapType
	}
	return types.WrapErr(errType(m, t.TypeName()))
}

// Type returns the type of maps.
func (m *mapping[E]) Type() ref.Type { return types.MapType }

// Value returns the map itself: there is no Go value behind it.
func (m *mapping[E]) Value() any { return m }

// fieldEntries are those of a map field.
type fieldEntries struct {
	m      protoreflect.Map
	fd     protoreflect.FieldDescriptor
	schema *values
}

func (f fieldEntries) len() int { return f.m.Len() }

func (f fieldEntries) find(key ref.Val) (ref.Val, bool) {
	k, err := mapKey(f.fd.MapKey(), key)
	if err != nil || !f.m.Has(k) {
		return nil, false
	}
	return f.schema.singular(f.fd.MapValue(), f.m.Get(k)), true
}

func (f fieldEntries) keys() []ref.Val {
	keys := make([]protoreflect.MapKey, 0, f.m.Len())
	f.m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	kind := f.fd.MapKey().Kind()
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return compareKeys(kind, a, b) })
	all := make([]ref.Val, len(keys))
	for i, k := range keys {
		all[i] = f.schema.singular(f.fd.MapKey(), k.Value())
	}
	return all
}

func compareKeys(kind protoreflect.Kind, a, b protoreflect.MapKey) int {
	switch kind {
	case protoreflect.StringKind:
		return cmp.Compare(a.String(), b.String())
	case protoreflect.BoolKind:
		return boolToInt(a.Bool()) - boolToInt(b.Bool())
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return cmp.Compare(a.Uint(), b.Uint())
	}
	return cmp.Compare(a.Int(), b.Int())
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// mapKey returns the key of a map field. A number is as good as another of the
// same value.
func mapKey(fd protoreflect.FieldDescriptor, key ref.Val) (protoreflect.MapKey, error) {
	if d, ok := key.(types.Double); ok && float64(d) == math.Trunc(float64(d)) {
		if key = d.ConvertToType(types.IntType); types.IsError(key) {
			key = d.ConvertToType(types.UintType)
		}
	}
	v, err := scalar(fd, key)
	if err != nil {
		return protoreflect.MapKey{}, err
	}
	return v.MapKey(), nil
}

// metadataEntries are those of metadata.
type metadataEntries struct {
	*filter.Metadata
	// value makes a value of all those that a key has.
	value func(values []string) ref.Val
}

// firstValues returns metadata as a map of the first value of each key.
func firstValues(m *filter.Metadata) traits.Mapper {
	return &mapping[metadataEntries]{metadataEntries{m, func(values []string) ref.Val { return types.String(values[0]) }}}
}

// allValues returns metadata as a map of lists.
func allValues(m *filter.Metadata) traits.Mapper {
	return &mapping[metadataEntries]{metadataEntries{m, func(values []string) ref.Val {
		return types.NewStringList(types.DefaultTypeAdapter, values)
	}}}
}

func (m metadataEntries) len() int { return len(m.keys()) }

func (m metadataEntries) find(key ref.Val) (ref.Val, bool) {
	k, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	values := m.Values(string(k))
	if len(values) == 0 {
		return nil, false
	}
	return m.value(values), true
}

func (m metadataEntries) keys() []ref.Val {
	var names []string
	for k := range m.All() {
		names = append(names, k)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	all := make([]ref.Val, len(names))
	for i, n := range names {
		all[i] = types.String(n)
	}
	return all
}
