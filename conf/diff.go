package conf

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// Change is a difference between two configurations: of one value or, for a
// route, cluster or the like that only one of them has, of the whole of it.
type Change struct {
	// Path is where it is in the new configuration or, for what has been removed,
	// in the old one: "routes[2].timeout".
	Path string
	// Old and New are the values as a file has them; "" for none. For the whole of
	// something Old is "", and New is "added" or "removed"; for a route that has
	// another place among others, they are its paths.
	Old, New string
}

// The values of Change.New for the whole of something. As text in a file they are
// in quotes here.
const (
	added   = "added"
	removed = "removed"
)

// String returns the change on a line: "routes[2] added",
// "timeouts.connect: 3s -> 5s".
func (c Change) String() string {
	if c.Old == "" && (c.New == added || c.New == removed) {
		return c.Path + " " + c.New
	}
	none := func(text string) string {
		if text == "" {
			return "(none)"
		}
		return text
	}
	return c.Path + ": " + none(c.Old) + " -> " + none(c.New)
}

// Diff returns how two configurations differ, in the order of a file: one Change
// for each value that does. What is in lists is matched by what it is called:
// routes by their names, and those without by their matches; clusters by name. So a
// route more is a single Change. Lists of plain values are compared as a whole. Of a
// Secret there is "***". Both configurations are only read.
func Diff(old, new *Config) []Change {
	var d differ
	d.compare("", reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem(), false)
	return d.changes
}

// differ collects changes. A reflect.Value that is not valid is something that one
// configuration does not have.
type differ struct{ changes []Change }

func (d *differ) add(path, old, new string) {
	d.changes = append(d.changes, Change{Path: path, Old: old, New: new})
}

// compare compares two values of one type, of which at least one is there.
// omitEmpty is true where a file without the key has the zero value.
func (d *differ) compare(path string, old, new reflect.Value, omitEmpty bool) {
	t := typeOf(old, new)
	switch {
	case isText(t):
		d.values(path, old, new, omitEmpty)
	case t.Kind() == reflect.Struct:
		for _, f := range fieldsOf(t) {
			d.compare(KeyPath(path, f.key), fieldOf(old, f), fieldOf(new, f), f.omitEmpty)
		}
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		d.section(path, target(old), target(new))
	case t.Kind() == reflect.Map:
		d.entries(path, old, new)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		d.items(path, old, new)
	default:
		d.values(path, old, new, omitEmpty)
	}
}

func (d *differ) values(path string, old, new reflect.Value, omitEmpty bool) {
	o, n := textOf(old, omitEmpty), textOf(new, omitEmpty)
	if o == n {
		return
	}
	if isSecret(typeOf(old, new)) {
		o, n = Secret(o).String(), Secret(n).String()
	}
	d.add(path, o, n)
}

// section compares what may be left out as a whole, such as retry.
func (d *differ) section(path string, old, new reflect.Value) {
	if !old.IsValid() && !new.IsValid() {
		return
	}
	before := len(d.changes)
	d.compare(path, old, new, false)
	switch { // there is nothing in it, but it is there
	case len(d.changes) > before:
	case !old.IsValid():
		d.add(path, "", "{}")
	case !new.IsValid():
		d.add(path, "{}", "")
	}
}

// entries compares maps. Names of things are in one of them or in both; plain values
// are none in a map that does not have their key.
func (d *differ) entries(path string, old, new reflect.Value) {
	keys := map[string]bool{}
	for _, m := range []reflect.Value{old, new} {
		if m.IsValid() {
			for _, key := range m.MapKeys() {
				keys[key.String()] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		path, o, n := KeyPath(path, key), entryOf(old, key), entryOf(new, key)
		switch things := typeOf(o, n).Kind() == reflect.Pointer; {
		case things && !o.IsValid():
			d.add(path, "", added)
		case things && !n.IsValid():
			d.add(path, "", removed)
		default:
			d.compare(path, o, n, false)
		}
	}
}

// items compares lists of things. What is removed comes first.
func (d *differ) items(path string, old, new reflect.Value) {
	from := pair(old, new)
	for i := range length(old) {
		if !slices.Contains(from, i) {
			d.add(ItemPath(path, i), "", removed)
		}
	}
	inOrder := longestRise(from)
	for i, j := range from {
		path, before := ItemPath(path, i), ItemPath(path, j)
		if j < 0 {
			d.add(path, "", added)
			continue
		}
		if !inOrder[i] {
			d.add(path, before, path)
		}
		d.compare(path, old.Index(j), new.Index(i), false)
	}
}

// pair returns for each item of new the index of the same one in old, -1 if there is
// none. Items of one name are taken in turn.
func pair(old, new reflect.Value) []int {
	from := slices.Repeat([]int{-1}, length(new))
	taken := make([]bool, length(old))
	for kind := range maxNames {
		byName := map[string][]int{}
		for j, isTaken := range taken {
			if name := namesOf(old.Index(j))[kind]; name != "" && !isTaken {
				byName[name] = append(byName[name], j)
			}
		}
		for i := range from {
			name := namesOf(new.Index(i))[kind]
			if from[i] < 0 && len(byName[name]) > 0 {
				from[i], byName[name] = byName[name][0], byName[name][1:]
				taken[from[i]] = true
			}
		}
	}
	return from
}

// maxNames is how many ways there are to call an item, the best first.
const maxNames = 2

// namesOf returns what an item of a list is called; "" for nothing.
func namesOf(item reflect.Value) (names [maxNames]string) {
	switch item := item.Interface().(type) {
	case Route:
		names[0] = item.Name
		names[1] = jsonOf(item.Match)
	case Rule:
		names[0] = item.Name
	case Listener:
		names[0] = item.Address
	case Certificate:
		names[0] = item.Cert
	case WeightedCluster:
		names[0] = item.Cluster
	case MetadataMatch:
		names[0] = item.Key
	case HTTPListener:
		names[0] = item.Address
	case APIKey:
		names[0] = item.Name
	case AccessRule:
		names[0] = jsonOf(AccessRule{Methods: item.Methods, Identities: item.Identities, Claims: item.Claims})
		names[1] = jsonOf(AccessRule{Methods: item.Methods, Identities: item.Identities})
	}
	return names
}

// jsonOf returns conditions, which are text and booleans, in one text.
func jsonOf(conditions any) string {
	text, err := json.Marshal(conditions)
	if err != nil {
		panic("conf: conditions that are no JSON: " + err.Error())
	}
	return string(text)
}

// longestRise tells which of some numbers, without those below 0, are in the longest
// series that rises: what of a list has not been moved.
func longestRise(numbers []int) []bool {
	var ends []int                      // the index of the least number that a series of each length ends with
	before := make([]int, len(numbers)) // the index of the number before, in the series that ends with one
	for i, n := range numbers {
		if n < 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(ends, n, func(end, n int) int { return numbers[end] - n })
		before[i] = -1
		if at > 0 {
			before[i] = ends[at-1]
		}
		ends = append(ends[:at], append([]int{i}, ends[min(at+1, len(ends)):]...)...)
	}
	rise := make([]bool, len(numbers))
	if len(ends) == 0 {
		return rise
	}
	for i := ends[len(ends)-1]; i >= 0; i = before[i] {
		rise[i] = true
	}
	return rise
}

func typeOf(a, b reflect.Value) reflect.Type {
	if a.IsValid() {
		return a.Type()
	}
	return b.Type()
}

func isText(t reflect.Type) bool { return t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) }

func fieldOf(v reflect.Value, f field) reflect.Value {
	if !v.IsValid() {
		return v
	}
	return v.FieldByIndex(f.index)
}

func entryOf(m reflect.Value, key string) reflect.Value {
	if !m.IsValid() {
		return m
	}
	return m.MapIndex(reflect.ValueOf(key))
}

// target returns what a pointer points to.
func target(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	return v.Elem() // not valid for nil
}

func length(list reflect.Value) int {
	if !list.IsValid() {
		return 0
	}
	return list.Len()
}

// textOf returns a value as a file has it, on one line; "" if it has none.
func textOf(v reflect.Value, omitEmpty bool) string {
	switch {
	case !v.IsValid() || omitEmpty && v.IsZero():
		return ""
	case v.Kind() == reflect.Pointer:
		return textOf(v.Elem(), false)
	case v.Kind() == reflect.String:
		return quoteIfNeeded(v.String())
	case v.Kind() != reflect.Slice:
		return fmt.Sprint(v.Interface())
	case v.Len() == 0:
		return ""
	}
	var items []string
	for i := range v.Len() {
		items = append(items, textOf(v.Index(i), false))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// quoteIfNeeded returns text as it stands in YAML, alone or in a list.
func quoteIfNeeded(text string) string {
	plain, err := yaml.Marshal(text)
	if err != nil || strings.ContainsAny(text, ",[]{}\r\n") || text == added || text == removed {
		return strconv.Quote(text)
	}
	return strings.TrimSuffix(string(plain), "\n")
}
