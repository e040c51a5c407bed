package auth

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func newKeys(t testing.TB, o APIKeys) *Keys {
	t.Helper()
	if o.File == "" && o.Keys == nil {
		o.Keys = []APIKey{{Name: "alice", SHA256: hashOf("alice's key")}, {Name: "bob", SHA256: strings.ToUpper(hashOf("bob's"))}}
	}
	k, err := NewAPIKeys(o)
	require.NoError(t, err)
	k.Start()
	t.Cleanup(k.Close)
	return k
}

func TestAPIKeys(t *testing.T) {
	k := newKeys(t, APIKeys{})
	for key, want := range map[string]string{"alice's key": "alice", "bob's": "bob"} {
		c := call("x-api-key", key)
		require.NoError(t, k.Guard(c))
		require.Equal(t, intercept.Identity{Kind: KindAPIKey, Name: want}, c.Identity())
		_, changed := c.ChangedHeader()
		require.False(t, changed, "which would cost something")
	}
}

func TestAPIKeysThatAreNotGood(t *testing.T) {
	for name, test := range map[string]struct {
		metadata []string
		want     string
	}{
		"none":         {nil, `the call has no API key; send one as metadata "x-api-key"`},
		"unknown":      {[]string{"x-api-key", "s3cret"}, `the API key in "x-api-key" is not known`},
		"empty":        {[]string{"x-api-key", ""}, "is not known"},
		"a name":       {[]string{"x-api-key", "alice"}, "is not known"},
		"a hash":       {[]string{"x-api-key", hashOf("alice's key")}, "is not known"},
		"with a space": {[]string{"x-api-key", "alice's key "}, "is not known"},
		"very long":    {[]string{"x-api-key", strings.Repeat("x", 100_000)}, "is not known"},
		"two":          {[]string{"x-api-key", "alice's key", "x-api-key", "bob's"}, "several values"},
		"twice":        {[]string{"x-api-key", "alice's key", "x-api-key", "alice's key"}, "several values"},
		"other header": {[]string{"authorization", "alice's key"}, "has no API key"},
	} {
		for _, optional := range []bool{false, true} {
			t.Run(fmt.Sprint(name, optional), func(t *testing.T) {
				k, c := newKeys(t, APIKeys{Optional: optional, Remove: true}), call(test.metadata...)
				err := k.Guard(c)
				require.Zero(t, c.Identity())
				if optional && strings.Contains(test.want, "no API key") {
					require.NoError(t, err)
					return
				}
				isUnauthenticated(t, err, test.want)
				require.NotContains(t, err.Error(), "s3cret")
			})
		}
	}
}

func TestLongAPIKeys(t *testing.T) {
	longest := strings.Repeat("k", maxKey)
	k := newKeys(t, APIKeys{Keys: []APIKey{{"a", hashOf(longest)}, {"b", hashOf(longest + "k")}}})
	require.NoError(t, k.Guard(call("x-api-key", longest)))
	isUnauthenticated(t, k.Guard(call("x-api-key", longest+"x")), "is not known")
	isUnauthenticated(t, k.Guard(call("x-api-key", longest+"k")), "is not known")
}

func TestAPIKeysAreRemoved(t *testing.T) {
	k := newKeys(t, APIKeys{Header: "X-Key", Remove: true})
	c := call("a", "1", "x-key", "alice's key", "b", "2")
	require.NoError(t, k.Guard(c))
	require.Equal(t, stream.Metadata{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}, forBackend(c))
	require.Equal(t, "alice's key", c.Request().Metadata.Get("x-key"), "what the client has sent stays what it is")
}

// TestOptionalKeysLeaveTheIdentity: another link may have known the call.
func TestOptionalKeysLeaveTheIdentity(t *testing.T) {
	k, c := newKeys(t, APIKeys{Optional: true}), call()
	c.SetIdentity(intercept.Identity{Kind: KindMTLS, Name: "m"})
	require.NoError(t, k.Guard(c))
	require.Equal(t, "m", c.Identity().Name)
}

func TestAPIKeysThatCannotBe(t *testing.T) {
	hash := hashOf("x")
	for name, test := range map[string]struct {
		options APIKeys
		want    string
	}{
		"none":         {APIKeys{}, "set one of the two"},
		"both":         {APIKeys{File: "f", Keys: []APIKey{{"a", hash}}}, "set one of the two"},
		"no name":      {APIKeys{Keys: []APIKey{{"", hash}}}, "key 1: its name is empty"},
		"bad name":     {APIKeys{Keys: []APIKey{{"a\nb", hash}}}, "key 1: its name"},
		"plain key":    {APIKeys{Keys: []APIKey{{"a", "s3cret"}}}, `key 1, of "a": sha256 is not 64 hexadecimal digits`},
		"short hash":   {APIKeys{Keys: []APIKey{{"a", hash[2:]}}}, "64 hexadecimal digits"},
		"long hash":    {APIKeys{Keys: []APIKey{{"a", hash + "00"}}}, "64 hexadecimal digits"},
		"same name":    {APIKeys{Keys: []APIKey{{"a", hash}, {"a", hashOf("y")}}}, `key 2: there is one of "a" already`},
		"same key":     {APIKeys{Keys: []APIKey{{"a", hash}, {"b", strings.ToUpper(hash)}}}, `key 2, of "b": "a" has the same key`},
		"no file":      {APIKeys{File: "missing.yaml", Logger: quiet}, "missing.yaml: no such file"},
		"a directory":  {APIKeys{File: os.TempDir(), Logger: quiet}, "not a regular file"},
		"bad header":   {APIKeys{Header: "a b", Keys: []APIKey{{"a", hash}}}, `header: "a b" is no key`},
		"bytes header": {APIKeys{Header: "x-key-bin", Keys: []APIKey{{"a", hash}}}, "has bytes as values"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewAPIKeys(test.options)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestKeyFiles(t *testing.T) {
	a, b := hashOf("a"), hashOf("b")
	want := []APIKey{{"alice", a}, {"bob", b}}
	for name, content := range map[string]string{
		"lines":      "- {name: alice, sha256: " + a + "}\n- {name: bob, sha256: \"" + b + "\"}\n",
		"blocks":     "# keys\n- name: alice\n  sha256: " + a + "\n- name: bob # b\n  sha256: '" + b + "'",
		"flow":       "[{name: alice, sha256: " + a + "},\n {name: bob, sha256: " + b + "}]",
		"json":       `[{"name": "alice", "sha256": "` + a + `"},{"name":"bob","sha256":"` + b + `"}]`,
		"windows":    "\ufeff- {name: alice, sha256: " + a + "}\r\n- {name: bob, sha256: " + b + "}\r\n",
		"a document": "---\n- {name: alice, sha256: " + a + "}\n- {name: bob, sha256: " + b + "}",
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := parseKeys([]byte(content))
			require.NoError(t, err)
			require.Equal(t, want, keys)
		})
	}
}

func TestKeyFilesThatAreNotGood(t *testing.T) {
	good := "- {name: a, sha256: x}\n"
	for name, test := range map[string]struct{ content, want string }{
		"empty":           {"", "not a list of keys"},
		"comments":        {"# nothing", "not a list of keys"},
		"empty list":      {"[]", "not a list of keys"},
		"a map":           {"keys:\n- {name: a, sha256: s3cret}", "not a list of keys"},
		"plain keys":      {"- s3cret\n", "line 1: it is not a list of keys"},
		"an unknown key":  {good + "- {name: a, key: s3cret}\n", "line 2: it is not a list of keys"},
		"unknown in JSON": {`[{"name":"a","key":"s3cret"}]`, "not a list of keys"},
		"twice":           {"- {name: a, name: b, sha256: s3cret}", "line 1: it is not a list of keys"},
		"no YAML":         {good + "- {name: s3cret", "not a list of keys"},
		"an alias":        {"- &x {name: a, sha256: b}\n- *x", `line 1 has a '&'`},
		"two documents":   {good + "---\n" + good, "second document"},
		"not UTF-8":       {"- \xff", "not UTF-8 text"},
		"zero":            {"- \x00", "not UTF-8 text"},
		"deep":            {strings.Repeat("[", 100_000), "longer than 512 bytes"},
		"deep in lines":   {strings.Repeat("[\n", 100_000), "not a list of keys"},
		"many values":     {strings.Repeat("a:\n", 100_000), "not a list of keys"},
		"many keys":       {"- " + strings.Repeat("a: 1\n  ", 100_000), "not a list of keys"},
		"many":            {strings.Repeat("-\n", 300_000), "not a list of keys"},
		"a long line":     {good + "- {name: " + strings.Repeat("a", 600) + "}", "line 2 is longer than 512 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseKeys([]byte(test.content))
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("- {name: alice, sha256: \"" + hashOf("a") + "\"}\n- name: bob\n  sha256: " + hashOf("b")))
	f.Add([]byte(`[{"name":"a","sha256":"b"}]`))
	f.Add([]byte("- - - -\n---\n-\n? a\n: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if err != nil {
			return
		}
		names, err := nameKeys(keys)
		if err != nil {
			return
		}
		require.Len(t, names, len(keys))
		again, err := json.Marshal(keys)
		require.NoError(t, err)
		same, err := parseKeys(again)
		require.NoError(t, err)
		require.Equal(t, keys, same)
	})
}

func TestKeyFileThatChanges(t *testing.T) {
	var log lines
	path := filepath.Join(t.TempDir(), "keys.yaml")
	entry := func(name string) string {
		return fmt.Sprintf("- {name: %s, sha256: %s}\n", name, hashOf(name+"'s key"))
	}
	write(t, path, entry("alice")+entry("bob"))
	k := newKeys(t, APIKeys{File: path, Logger: log.logger()})
	passes := func(name string) bool { return k.Guard(call("x-api-key", name+"'s key")) == nil }
	require.True(t, passes("alice"))

	write(t, path, entry("bob")+entry("carol"))
	await(t, func() bool { return passes("carol") })
	require.False(t, passes("alice"))
	require.True(t, passes("bob"))
	await(t, func() bool { return log.count("has been read again") == 1 })

	for range 3 { // the same fault is one fault
		write(t, path, "- {name: dave, sha256: s3cret}\n")
	}
	await(t, func() bool { return log.count("cannot be used") == 1 })
	require.Equal(t, 1, log.count("64 hexadecimal digits"))
	require.True(t, passes("bob") && passes("carol"), "a broken file changes nothing")
	require.NoError(t, os.Remove(path))
	await(t, func() bool { return log.count("no such file") == 1 })
	require.True(t, passes("bob"))

	write(t, path, entry("dave"))
	await(t, func() bool { return passes("dave") })
	require.False(t, passes("bob"))
	require.Equal(t, 1, log.count("64 hexadecimal digits"))
	require.Zero(t, log.count("s3cret"))
	k.Close()
	require.True(t, passes("dave"))
}

func BenchmarkAPIKeys(b *testing.B) {
	for _, remove := range []bool{false, true} {
		b.Run(fmt.Sprint("remove=", remove), func(b *testing.B) {
			k := newKeys(b, APIKeys{Remove: remove})
			benchmarkGuard(b, k.Guard, func() *intercept.Call {
				return call("user-agent", "grpc-go/1", "x-tenant", "a", "x-api-key", "alice's key")
			})
		})
	}
}

// benchmarkGuard measures a guard with a new call each time, of which "no guard" is the
// cost.
func benchmarkGuard(b *testing.B, guard intercept.Guard, newCall func() *intercept.Call) {
	b.ReportAllocs()
	for b.Loop() {
		if err := guard(newCall()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNoGuard(b *testing.B) {
	benchmarkGuard(b, func(*intercept.Call) error { return nil }, func() *intercept.Call {
		return call("user-agent", "grpc-go/1", "x-tenant", "a", "x-api-key", "alice's key")
	})
}
