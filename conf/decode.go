package conf

import (
	"encoding"
	"errors"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder fills the configuration types from a YAML tree. It goes on after a
// problem, so that all are reported, and notes where each field is written for
// the checks that come later.
type decoder struct{ *report }

// decode sets out to what node says; node is the value of path. After a problem
// out keeps what it had.
func (d decoder) decode(path string, node ast.Node, out reflect.Value) {
	if isSecret(out.Type()) {
		d.secret[path] = true
	}
	if unit, ok := out.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.unit(path, node, unit)
		return
	}
	switch out.Kind() {
	case reflect.Pointer:
		if !isNull(node) {
			out.Set(newValue(out.Type().Elem()))
			d.decode(path, node, out.Elem())
		}
	case reflect.Struct:
		d.structure(path, node, out)
	case reflect.Map:
		d.mapping(path, node, out)
	case reflect.Slice:
		d.slice(path, node, out)
	case reflect.String:
		d.str(path, node, out)
	case reflect.Int:
		d.wholeNumber(path, node, out)
	case reflect.Float64:
		d.number(path, node, out)
	case reflect.Bool:
		d.boolean(path, node, out)
	default:
		panic("conf: cannot decode a " + out.Type().String()) // conf.go has no such type
	}
}

// defaulter is a type that occurs many times in a configuration and has a
// default other than its zero value.
type defaulter interface{ setDefaults() }

// newValue returns a pointer to a new t with its defaults.
func newValue(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := v.Interface().(defaulter); ok {
		d.setDefaults()
	}
	return v
}

// field is a key of a struct.
type field struct {
	key       string
	index     []int
	omitEmpty bool // a file without it has the zero value
}

// fieldsOf lists a struct's keys in the order of declaration, with those of
// inlined structs.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		if key, options, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" {
			fields = append(fields, field{key: key, index: f.Index, omitEmpty: options == "omitempty"})
		}
	}
	return fields
}

func (d decoder) structure(path string, node ast.Node, out reflect.Value) {
	fields := fieldsOf(out.Type())
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	d.eachEntry(path, node, keys, func(key string, value ast.Node) {
		for _, f := range fields {
			if f.key == key {
				d.decode(KeyPath(path, key), value, out.FieldByIndex(f.index))
				return
			}
		}
		d.unknownKey(path, key, keys)
	})
}

func (d decoder) unknownKey(path, key string, keys []string) {
	near := nearest(key, keys)
	if near == "" {
		d.badField(KeyPath(path, key), "unknown key", "known here: "+strings.Join(keys, ", "))
		return
	}
	d.badField(KeyPath(path, key), "unknown key", "did you mean "+quote(near)+"?")
	d.markBroken(KeyPath(path, near)) // its value is in the file, under the wrong name
}

// mapping decodes a map from text to values or to pointers. Pointers are never
// nil: a name with nothing below it has the defaults.
func (d decoder) mapping(path string, node ast.Node, out reflect.Value) {
	elem := out.Type().Elem()
	pointers := elem.Kind() == reflect.Pointer
	if pointers {
		elem = elem.Elem()
	}
	values := reflect.MakeMap(out.Type())
	d.eachEntry(path, node, nil, func(key string, entry ast.Node) {
		value := newValue(elem)
		d.decode(KeyPath(path, key), entry, value.Elem())
		if !pointers {
			value = value.Elem()
		}
		values.SetMapIndex(reflect.ValueOf(key), value)
	})
	if values.Len() > 0 { // an empty map and none are the same
		out.Set(values)
	}
}

// eachEntry calls visit for each entry of a map, in the order of the file. No
// value at all is as good as an empty map: everything in a section may be
// commented out. keys are for a message; nil if any key will do.
func (d decoder) eachEntry(path string, node ast.Node, keys []string, visit func(key string, value ast.Node)) {
	if isNull(node) {
		return
	}
	entries, ok := node.(ast.MapNode)
	if !ok {
		d.wrongKind(path, node, kindMap, mapHint(keys))
		return
	}
	lines := map[string]int{}
	for iter := entries.MapRange(); iter.Next(); {
		at := iter.Key().GetToken()
		key := at.Value
		if line, again := lines[key]; again {
			d.duplicate(KeyPath(path, key), line, at.Position)
			continue
		}
		lines[key] = at.Position.Line
		d.note(KeyPath(path, key), at.Position, iter.Value())
		visit(key, iter.Value())
	}
}

func mapHint(keys []string) string {
	if keys == nil {
		return `write "name: value" lines`
	}
	return `write "key: value" lines (keys: ` + strings.Join(keys, ", ") + ")"
}

func (d decoder) duplicate(path string, line int, at *token.Position) {
	d.append(&Error{
		Line: at.Line, Column: at.Column, Field: path,
		Problem: "is already in line " + strconv.Itoa(line),
		Hint:    "keep one of the two",
	})
	d.markBroken(path)
}

// note remembers where path is written, and its text.
func (d decoder) note(path string, at *token.Position, value ast.Node) {
	d.places[path] = place{line: at.Line, column: at.Column, text: scalarText(value)}
}

func (d decoder) slice(path string, node ast.Node, out reflect.Value) {
	if isNull(node) {
		return
	}
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		d.wrongKind(path, node, kindList, `write each entry on a line of its own after "- "`)
		return
	}
	if len(sequence.Values) == 0 {
		out.SetZero() // an empty list and none are the same, but where the default is another one
		return
	}
	items := reflect.MakeSlice(out.Type(), len(sequence.Values), len(sequence.Values))
	for i, entry := range sequence.Values {
		d.note(ItemPath(path, i), startOf(entry), entry)
		if isNull(entry) {
			d.badField(ItemPath(path, i), "has no value", `write one after the "-" or remove the line`)
			continue
		}
		items.Index(i).Set(newValue(out.Type().Elem()).Elem())
		d.decode(ItemPath(path, i), entry, items.Index(i))
	}
	out.Set(items)
}

func (d decoder) str(path string, node ast.Node, out reflect.Value) {
	switch kindOf(node) {
	case kindText:
		out.SetString(scalarText(node))
	case kindNumber, kindBoolean:
		hint := "put it in quotes"
		if out.Type() == reflect.TypeFor[Code]() {
			hint = "write the name of the code, such as PERMISSION_DENIED"
		}
		d.wrongKind(path, node, kindText, hint)
	default:
		d.wrongKind(path, node, kindText, "write plain text")
	}
}

// unit decodes a type that reads its own text: a Duration or a Size.
func (d decoder) unit(path string, node ast.Node, out encoding.TextUnmarshaler) {
	if kind := kindOf(node); kind != kindText && kind != kindNumber {
		d.wrongKind(path, node, "a number with a unit", "write plain text")
		return
	}
	var wrong *Error
	if err := out.UnmarshalText([]byte(scalarText(node))); errors.As(err, &wrong) {
		d.badValue(path, wrong.Value, wrong.Problem, wrong.Hint)
	}
}

// numberText returns a number as it is written, if that is what the node is: what it
// is called, and hint, are for messages.
func (d decoder) numberText(path string, node ast.Node, called kind, hint string) (written string, ok bool) {
	written = scalarText(node)
	switch kindOf(node) {
	case kindNumber:
		return written, true
	case kindText:
		if isNumber(written) && !isPlain(node) {
			d.badValue(path, written, "is in quotes", "remove them")
			return "", false
		}
		return written, true
	default:
		d.wrongKind(path, node, called, hint)
		return "", false
	}
}

// wholeNumber decodes an int. Hexadecimal, octal and grouped digits are refused:
// what 010 means depends on the version of YAML.
func (d decoder) wholeNumber(path string, node ast.Node, out reflect.Value) {
	const hint = "write digits only, such as 100"
	written, ok := d.numberText(path, node, "a whole number", hint)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(written, 10, strconv.IntSize)
	switch {
	case errors.Is(err, strconv.ErrRange):
		d.badValue(path, written, "is too large", hint)
	case err != nil || node.GetToken().Type != token.IntegerType:
		d.badValue(path, written, "is not a plain whole number", hint)
	default:
		out.SetInt(n)
	}
}

// plainNumber is how numbers that may have a point are written.
var plainNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

// number decodes a float64. As with whole numbers, only the plain form is taken.
func (d decoder) number(path string, node ast.Node, out reflect.Value) {
	const hint = "write digits, such as 12.5"
	written, ok := d.numberText(path, node, kindNumber, hint)
	if !ok {
		return
	}
	n, err := strconv.ParseFloat(written, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		d.badValue(path, written, "is too large", hint)
	case err != nil || !plainNumber.MatchString(written):
		d.badValue(path, written, "is not a plain number", hint)
	default:
		out.SetFloat(n)
	}
}

func (d decoder) boolean(path string, node ast.Node, out reflect.Value) {
	if kindOf(node) != kindBoolean {
		d.wrongKind(path, node, kindBoolean, "write true or false")
		return
	}
	out.SetBool(strings.EqualFold(scalarText(node), "true")) // YAML has True and TRUE, too
}

// wrongKind reports that a value is a list, say, where a map is wanted.
func (d decoder) wrongKind(path string, node ast.Node, wanted kind, hint string) {
	if isNull(node) {
		d.badField(path, "has no value", "write one or remove the line")
		return
	}
	problem := string("is " + kindOf(node) + " where " + wanted + " is wanted")
	d.badValue(path, scalarText(node), problem, hint)
}
