package conf

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShippedFilesLoad(t *testing.T) {
	for _, name := range []string{"proxy.yaml", "default.yaml"} {
		_, err := Load(name)
		require.NoError(t, err)
	}
}

// The sample is to work with what is in the repository.
func TestSampleHasASchemaThatExists(t *testing.T) {
	c, err := Load("proxy.yaml")
	require.NoError(t, err)
	require.Len(t, c.Schemas, 1)
	for _, file := range c.Schemas["echo"].Files {
		require.FileExists(t, file)
	}
	require.Equal(t, ModeDynamic, c.Routes[1].Mode)
	require.Len(t, c.Routes[1].Rules, 2)
}

func TestShippedFilesAreEmbedded(t *testing.T) {
	sample, err := Parse("proxy.yaml", SampleYAML())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8888", sample.Listeners[0].Address)
	require.Equal(t, []string{"127.0.0.1:9000"}, sample.Clusters["echo"].Instances)

	got, err := Parse("default.yaml", DefaultYAML())
	require.NoError(t, err)
	want, err := Simple("127.0.0.1:8888", "127.0.0.1:9000")
	require.NoError(t, err)
	want.Clusters = map[string]*Cluster{"demo": want.Clusters["default"]}
	want.Default.Cluster = "demo"
	want.Schemas = map[string]*Schema{"demo": {Reflection: &Reflection{Cluster: "demo", Refresh: DefaultRefresh}}}
	want.HTTP = &HTTP{Listeners: []HTTPListener{{Address: "127.0.0.1:8080"}}, Gateway: new(Gateway), Functions: new(Functions)}
	want.HTTP.Gateway.setDefaults()
	want.HTTP.Gateway.Schemas = []string{"demo"}
	want.HTTP.Functions.setDefaults()
	want.HTTP.Functions.Routes = map[string]*Function{"echo": {Method: "/kitexproxy.echo.v1.Echo/Unary"}}
	want.Admin = &Admin{Address: "127.0.0.1:9901"}
	require.Equal(t, want, withoutSource(got))
}

// wholeSample returns the sample with its examples put in: what stands behind a
// "#" without a space. Lines keep their numbers.
func wholeSample() []byte {
	return regexp.MustCompile(`(?m)^( *)#([^ #\n])`).ReplaceAll(SampleYAML(), []byte("$1$2"))
}

func TestSampleIsValidWithItsExamplesPutIn(t *testing.T) {
	c, err := Parse("proxy.yaml", wholeSample())
	require.NoError(t, err)
	require.Equal(t, "echo", c.Schemas["live"].Reflection.Cluster)
	require.Equal(t, map[string]string{"message": `"reply " + string(message.sequence)`}, c.Routes[2].Rules[3].Set)
}

// The sample is the reference for operators: it has every key, each with a
// comment above its first use that says what the default is. Keys that do not
// go together are in examples.
func TestSampleExplainsEveryKey(t *testing.T) {
	lines := strings.Split(string(wholeSample()), "\n")
	written := sampleKeys(t)
	for key, byDefault := range allKeys(reflect.ValueOf(Default()).Elem(), "") {
		t.Run(key, func(t *testing.T) {
			require.Contains(t, written, key)
			at := written[key]
			comment := commentAbove(lines, at.line)
			name := key[strings.LastIndexByte(key, '.')+1:]
			require.Regexp(t, `^`+name+` (is|are|decide|bound|take|select)s? `, comment)
			if byDefault == "" || slices.Contains(mustBeThere, key) {
				return
			}
			require.Contains(t, comment, "Default: "+byDefault)
			require.Equal(t, byDefault, at.text, "the sample has the default as its value")
		})
	}
}

// mustBeThere are keys of which 0 is no default.
var mustBeThere = []string{
	"routes.split.weight", "interceptors.rate_limit.calls", "interceptors.concurrency_limit.calls",
}

// sampleKeys returns where the sample has each key first, by the path without
// names and indexes.
func sampleKeys(t *testing.T) map[string]place {
	r := newReport("proxy.yaml")
	decoder{r}.decode("", parseYAML(r, wholeSample()), reflect.ValueOf(Default()).Elem())
	require.NoError(t, r.err())
	keys := map[string]place{}
	for path, at := range r.places {
		key := anyKey(path)
		if first, ok := keys[key]; !ok || at.line < first.line {
			keys[key] = at
		}
	}
	return keys
}

// named matches what is below a map from names.
var named = regexp.MustCompile(`^(clusters|schemas|interceptors|http\.functions\.routes)\.[^.]+`)

// anyKey makes "routes[2].cluster" "routes.cluster", and "clusters.echo.x"
// "clusters.x". The default action has the keys of a route.
func anyKey(path string) string {
	path = regexp.MustCompile(`\[\d+\]`).ReplaceAllString(path, "")
	path = named.ReplaceAllString(path, "$1")
	return regexp.MustCompile(`^default\.`).ReplaceAllString(path, "routes.")
}

// allKeys returns every key below v, which holds the defaults, with its default
// as text if it has one.
func allKeys(v reflect.Value, path string) map[string]string {
	keys := map[string]string{}
	switch {
	case v.CanInterface() && v.Type().Implements(reflect.TypeFor[encoding.TextMarshaler]()), v.Kind() == reflect.Int, v.Kind() == reflect.Float64:
		keys[anyKey(path)] = fmt.Sprint(v.Interface())
	case v.Kind() == reflect.String:
		keys[anyKey(path)] = v.String()
	case v.Kind() == reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			key := KeyPath(path, f.key)
			keys[anyKey(key)] = ""
			for k, byDefault := range allKeys(v.FieldByIndex(f.index), key) {
				keys[k] = byDefault
			}
		}
	case v.Kind() == reflect.Map && v.Type().Elem().Kind() == reflect.Pointer:
		return allKeys(newValue(v.Type().Elem().Elem()).Elem(), path+".name")
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Int: // nil is none that could be written
		keys[anyKey(path)] = ""
	case v.Type() == reflect.TypeFor[[]float64](): // a list has no default to be written
		keys[anyKey(path)] = ""
	case v.Kind() == reflect.Slice, v.Kind() == reflect.Pointer:
		return allKeys(newValue(v.Type().Elem()).Elem(), path)
	}
	return keys
}

// commentAbove returns the comment that ends above a line, counted from 1.
func commentAbove(lines []string, line int) string {
	var comment []string
	for i := line - 2; i >= 0; i-- {
		text, ok := strings.CutPrefix(strings.TrimSpace(lines[i]), "# ")
		if !ok {
			break
		}
		comment = append([]string{text}, comment...)
	}
	return strings.Join(comment, " ")
}
