package conf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const smallYAML = `
listeners: [{address: 127.0.0.1:8888}]
clusters: {a: {instances: ["127.0.0.1:9000"]}}
default: {cluster: a}
`

func TestLoadReadsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	require.NoError(t, os.WriteFile(path, []byte(`
listeners:
  - address: 127.0.0.1:8888
  - address: unix:///run/a.sock
clusters:
  a: {instances: ["127.0.0.1:9000", "b:1"], connections: 2}
  b:
    instances: [127.0.0.1:9001]
schemas:
  files: {files: [/etc/a.proto], import_paths: [/etc]}
  set: {descriptor_set: /etc/all.binpb}
  live: {reflection: {cluster: a}}
  once: {reflection: {cluster: b, refresh: 0}}
routes:
  - match: {method: /x.Y/Z}
    cluster: a
    mode: frame
    timeout: 5s
    message_limit: 2MiB
    undecodable: forward
  - match: {service: x.Y}
    cluster: b
    mode: dynamic
    schema: files
    rules:
      - name: all
        on: request
        method: W
        if: message.text == ""
        set: {text: '"***"', user.name: message.text}
        clear: [a, b]
        redact: [c]
        metadata: {set: {x-a: '"1"'}, add: {x-b: peer}, remove: [x-c]}
        cluster: '"a"'
      - {name: reject, on: start, reject: {code: ABORTED, message: '"no"'}}
      - {name: drop, on: response, drop: true}
default: {cluster: b, mode: struct, timeout: 1m}
timeouts: {connect: 1s, shutdown: 2s, keepalive: 4s, idle_connection: 3s}
limits:
  message: 1MiB
  header_list: 8KiB
  streams_per_connection: 5
  connections: 6
  stream_window: 64KiB
  connection_window: 128KiB
transport: kitex
log: {level: warn, format: json}
metrics: {methods: 5, buckets: [0.5, 1]}
`), 0o600))

	c, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, &Config{
		Listeners: []Listener{{Address: "127.0.0.1:8888"}, {Address: "unix:///run/a.sock"}},
		Clusters: map[string]*Cluster{
			"a": {
				Instances: []string{"127.0.0.1:9000", "b:1"}, Balance: BalanceRoundRobin,
				Connections: 2,
			},
			"b": NewCluster("127.0.0.1:9001"),
		},
		Schemas: map[string]*Schema{
			"files": {Files: []string{"/etc/a.proto"}, ImportPaths: []string{"/etc"}},
			"set":   {DescriptorSet: "/etc/all.binpb"},
			"live":  {Reflection: &Reflection{Cluster: "a", Refresh: Duration(5 * time.Minute)}},
			"once":  {Reflection: &Reflection{Cluster: "b"}},
		},
		Routes: []Route{
			{Match: Match{Method: "/x.Y/Z"}, Action: Action{
				Cluster: "a", Mode: ModeFrame, Timeout: Duration(5 * time.Second),
				MessageLimit: 2 << 20, Undecodable: UndecodableForward,
			}},
			{Match: Match{Service: "x.Y"}, Action: Action{
				Cluster: "b", Mode: ModeDynamic, Undecodable: UndecodableReject, Schema: "files",
				Rules: []Rule{
					{
						Name: "all", On: OnRequest, Method: "W", If: `message.text == ""`,
						Set:   map[string]string{"text": `"***"`, "user.name": "message.text"},
						Clear: []string{"a", "b"}, Redact: []string{"c"},
						Metadata: MetadataChanges{
							Set: map[string]string{"x-a": `"1"`}, Add: map[string]string{"x-b": "peer"}, Remove: []string{"x-c"},
						},
						Cluster: `"a"`,
					},
					{Name: "reject", On: OnStart, Reject: &Reject{Code: "ABORTED", Message: `"no"`}},
					{Name: "drop", On: OnResponse, Drop: true},
				},
			}},
		},
		Default:  &Action{Cluster: "b", Mode: ModeStruct, Timeout: Duration(time.Minute), Undecodable: UndecodableReject},
		Timeouts: Timeouts{Connect: Duration(time.Second), Shutdown: Duration(2 * time.Second), Keepalive: Duration(4 * time.Second), IdleConnection: Duration(3 * time.Second)},
		Limits: Limits{
			Message: 1 << 20, HeaderList: 8 << 10, StreamsPerConnection: 5, Connections: 6,
			StreamWindow: 64 << 10, ConnectionWindow: 128 << 10,
		},
		Transport: TransportKitex,
		Log:       Log{Level: "warn", Format: "json"},
		Metrics:   Metrics{Methods: 5, Buckets: []float64{0.5, 1}},
	}, withoutSource(c))
}

const schemaYAML = smallYAML + `
schemas:
  files: {files: [a.proto, ../b/b.proto, /etc/c.proto], import_paths: [., ..]}
  set: {descriptor_set: all.binpb}
`

func TestLoadResolvesPathsFromTheFilesDirectory(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(dir+"/conf", 0o700))
	require.NoError(t, os.WriteFile(dir+"/conf/proxy.yaml", []byte(schemaYAML), 0o600))

	c, err := Load(dir + "/conf/proxy.yaml")
	require.NoError(t, err)
	require.Equal(t, &Schema{
		Files:       []string{dir + "/conf/a.proto", dir + "/b/b.proto", "/etc/c.proto"},
		ImportPaths: []string{dir + "/conf", dir},
	}, c.Schemas["files"])
	require.Equal(t, &Schema{DescriptorSet: dir + "/conf/all.binpb"}, c.Schemas["set"])

	t.Chdir(dir)
	for path, want := range map[string]string{"conf/proxy.yaml": "conf/all.binpb", "./conf/../conf/proxy.yaml": "conf/all.binpb"} {
		c, err = Load(path)
		require.NoError(t, err)
		require.Equal(t, want, c.Schemas["set"].DescriptorSet)
	}
}

func TestLoadResolvesEveryPath(t *testing.T) {
	content := corpus(t, "routing.good.yaml")["routing.good.yaml"]
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/proxy.yaml", content, 0o600))
	c, err := Load(dir + "/proxy.yaml")
	require.NoError(t, err)
	require.Equal(t, &ListenerTLS{
		Certificates: []Certificate{
			{Cert: dir + "/a.pem", Key: dir + "/both.key"},
			{Cert: "/etc/b.pem", Key: dir + "/both.key"},
		},
		ClientCA: dir + "/clients.pem", ClientCertificate: ClientCertificateOptional, MinVersion: "1.3",
	}, c.Listeners[1].TLS)
	require.Equal(t, &ClusterTLS{
		CA: dir + "/ca.pem", Cert: dir + "/a.pem", Key: dir + "/a.key", ServerName: "10.0.0.1", MinVersion: "1.3",
	}, c.Clusters["weighted"].TLS)
	require.Equal(t, dir+"/instances.yaml", c.Clusters["file"].Discovery.File)
	require.Equal(t, &Etcd{
		Endpoints: []string{"a:1", "[::1]:1"}, Prefix: "/p", Username: "a", PasswordFile: dir + "/p",
		TLS: &ClusterTLS{CA: dir + "/etcd.pem", MinVersion: "1.2"}, // and no paths of files that are not named
	}, c.Clusters["etcd"].Discovery.Etcd)
	require.Equal(t, []string{dir + "/a.proto"}, c.Schemas["echo"].Files)
}

func TestLoadResolvesThePathsOfInterceptorsAndTheRest(t *testing.T) {
	content := corpus(t, "edge.good.yaml")["edge.good.yaml"]
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/proxy.yaml", content, 0o600))
	c, err := Load(dir + "/proxy.yaml")
	require.NoError(t, err)
	require.Equal(t, dir+"/keys.yaml", c.Interceptors["files"].APIKeys.File)
	require.Equal(t, dir+"/issuer.pem", c.Interceptors["users"].JWT.JWKS.CA)
	require.Equal(t, dir+"/jwks.json", c.Interceptors["shared"].JWT.JWKS.File)
	require.Equal(t, Certificate{Cert: dir + "/b.pem", Key: dir + "/b.key"}, c.HTTP.Listeners[1].TLS.Certificates[0])
	require.Equal(t, dir+"/logs/access.log", c.AccessLog.Output)
	require.Equal(t, dir+"/otlp.pem", c.Tracing.OTLP.CA)
	require.NoError(t, c.Validate())

	for _, output := range []string{OutputStderr, OutputStdout} {
		require.NoError(t, os.WriteFile(dir+"/proxy.yaml", []byte(smallYAML+"access_log: {output: "+output+"}\n"), 0o600))
		c, err = Load(dir + "/proxy.yaml")
		require.NoError(t, err)
		require.Equal(t, output, c.AccessLog.Output)
	}
}

func TestLoadFillsInDefaults(t *testing.T) {
	c, err := Parse("routing.yaml", corpus(t, "routing.good.yaml")["routing.good.yaml"])
	require.NoError(t, err)
	require.Equal(t, &Cluster{
		Instances: []string{"a:1"}, Balance: BalanceRoundRobin, Connections: 4,
		Health: &Health{
			Check: &HealthCheck{Interval: Duration(5 * time.Second), Timeout: Duration(time.Second), Unhealthy: 2, Healthy: 1},
			Eject: &Eject{
				Consecutive: 5, MinCalls: 20, Interval: Duration(10 * time.Second),
				For: Duration(30 * time.Second), MaxPercent: 10,
			},
		},
		TLS: &ClusterTLS{MinVersion: "1.2"},
	}, c.Clusters["defaults"])
	require.Equal(t, &Discovery{Registry: "consul", Service: "s", Refresh: Duration(5 * time.Second)}, c.Clusters["registry"].Discovery)
	require.Equal(t, &Retry{
		Codes: []Code{"UNAVAILABLE"}, Attempts: 3, Backoff: Duration(25 * time.Millisecond), MaxBackoff: Duration(time.Second),
		Buffer: 64 << 10, BudgetPercent: 20,
	}, c.Routes[1].Retry)
	require.Equal(t, &Mirror{Cluster: "etcd", Percent: 100}, c.Routes[1].Mirror)
	require.Equal(t, DefaultEtcdPrefix, newValue(reflect.TypeFor[Etcd]()).Interface().(*Etcd).Prefix)
	require.Equal(t, "1.2", newValue(reflect.TypeFor[ListenerTLS]()).Interface().(*ListenerTLS).MinVersion)
}

func TestParseLowersKeysOfMetadata(t *testing.T) {
	c, err := Parse("routing.yaml", corpus(t, "routing.good.yaml")["routing.good.yaml"])
	require.NoError(t, err)
	require.Equal(t, "x-user", c.Clusters["file"].HashOn.Metadata)
	require.Equal(t, "x-canary", c.Routes[0].Match.Metadata[0].Key)
	require.Equal(t, HeaderChanges{
		Set:    map[string]string{"x-a": "", "user-agent": "a", "x-bin": "fine"},
		Add:    map[string]string{"x-a": "b", "x-b-bin": "AQ==", "x-c-bin": "AQ", "x-d-bin": ""},
		Remove: []string{"x-gone", "cookie"},
	}, c.Routes[0].RequestMetadata)

	c, err = Parse("default.yaml", []byte(smallYAML[:strings.LastIndex(smallYAML, "}")]+", response_trailer: {set: {X-A: b}}}\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"x-a": "b"}, c.Default.ResponseTrailer.Set)
}

func TestParseLowersKeysOfInterceptorsAndTheRest(t *testing.T) {
	c, err := Parse("edge.yaml", corpus(t, "edge.good.yaml")["edge.good.yaml"])
	require.NoError(t, err)
	require.Equal(t, "x-key", c.Interceptors["keys"].APIKeys.Header)
	require.Equal(t, "x-token", c.Interceptors["users"].JWT.Header)
	require.Equal(t, map[string]string{"x-user": "sub"}, c.Interceptors["users"].JWT.Claims)
	require.Equal(t, "x-id", c.Interceptors["ids"].RequestID.Header)
	require.Equal(t, "metadata:x-tenant", c.Interceptors["rate"].RateLimit.Key)
	require.Equal(t, []string{"x-tenant"}, c.HTTP.Gateway.RequestHeaders)
	require.Equal(t, []string{"x-a", "grpc-trace-bin"}, c.HTTP.Gateway.ResponseHeaders)
	require.Equal(t, []string{"x-b"}, c.HTTP.Gateway.ResponseTrailers)
	require.Equal(t, map[string]string{"Session": "x-session"}, c.HTTP.Gateway.Cookies)
	require.Equal(t, "https://app.example.com:8443", c.HTTP.Gateway.WebSocket.Origins[0])
	require.Equal(t, []string{"x-tenant"}, c.AccessLog.Metadata)
	require.Equal(t, map[string]Secret{"authorization": "Bearer a"}, c.Tracing.OTLP.Headers)

	c, err = Parse("redact.yaml", []byte(smallYAML+"access_log: {redact: [X-Secret]}\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"x-secret"}, c.AccessLog.Redact)
}

func TestParseLeavesPathsToTheWorkingDirectory(t *testing.T) {
	c, err := Parse("/etc/proxy.yaml", []byte(schemaYAML))
	require.NoError(t, err)
	require.Equal(t, []string{"a.proto", "../b/b.proto", "/etc/c.proto"}, c.Schemas["files"].Files)
	require.Equal(t, "all.binpb", c.Schemas["set"].DescriptorSet)
}

func TestLoadNamesTheFileItCannotRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for name, c := range map[string]struct{ path, want string }{
		"no name":   {"", "no configuration file is named; give its path, such as conf/proxy.yaml"},
		"missing":   {dir + "/no.yaml", dir + "/no.yaml: does not exist; check the path, or copy conf/proxy.yaml there"},
		"directory": {dir, dir + ": is a directory; name the file in it, such as proxy.yaml"},
		"below a file": {
			write("file", smallYAML) + "/proxy.yaml",
			dir + "/file/proxy.yaml: cannot be read: not a directory; check the path",
		},
		"empty":     {write("empty.yaml", ""), dir + "/empty.yaml: the file holds no configuration; copy conf/proxy.yaml and change it"},
		"blank":     {write("blank.yaml", " \n\n"), dir + "/blank.yaml: the file holds no configuration; copy conf/proxy.yaml and change it"},
		"too large": {write("large.yaml", smallYAML+strings.Repeat("#\n", 2<<20)), dir + "/large.yaml: is larger than 4MiB; check that it is the right file"},
		"endless":   {"/dev/zero", "/dev/zero: is larger than 4MiB; check that it is the right file"},
		"binary":    {write("binary", "\x7fELF\x02\x01"), dir + "/binary:1:1: the file has the control character '\\x7f'; remove it"},
		"Latin-1":   {write("latin1.yaml", "# caf\xe9\n"), dir + "/latin1.yaml:1:6: the file is not UTF-8 text; save it in UTF-8"},
		"UTF-16":    {write("utf16.yaml", "\xff\xfel\x00"), dir + "/utf16.yaml:1:1: the file is not UTF-8 text; save it in UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load(c.path)
			require.Nil(t, got)
			require.EqualError(t, err, c.want)
		})
	}
}

func TestLoadErrorsKeepTheirCause(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "no.yaml"))
	require.ErrorIs(t, err, fs.ErrNotExist)

	e := unreadable("a.yaml", &fs.PathError{Op: "open", Path: "a.yaml", Err: fs.ErrPermission})
	require.ErrorIs(t, e, fs.ErrPermission)
	require.EqualError(t, e, "a.yaml: may not be read by this user; check the permissions of the file and its directories")
	e = unreadable("a.yaml", errors.New("disk on fire"))
	require.EqualError(t, e, "a.yaml: cannot be read: disk on fire; check the path")
}

func TestParseTakesWhatEditorsAdd(t *testing.T) {
	want, err := Parse("small.yaml", []byte(smallYAML))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"byte order mark":  "\ufeff" + strings.TrimPrefix(smallYAML, "\n"),
		"CRLF":             strings.ReplaceAll(smallYAML, "\n", "\r\n"),
		"no final newline": strings.TrimSuffix(smallYAML, "\n"),
		"document marks":   "---" + smallYAML + "...\n",
		"comments around":  "# a\n---\n# b" + smallYAML + "# c\n...\n# d\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("small.yaml", []byte(text))
			require.NoError(t, err)
			require.Equal(t, withoutSource(want), withoutSource(got))
		})
	}
}

func TestPositionsWithCRLF(t *testing.T) {
	_, err := Parse("a.yaml", []byte(strings.ReplaceAll(smallYAML+"log:\n  levl: info\n", "\n", "\r\n")))
	require.EqualError(t, err, `a.yaml:6:3: log.levl: unknown key; did you mean "level"?`)
}

func TestErrorsGiveTheirParts(t *testing.T) {
	_, err := Parse("a.yaml", []byte(smallYAML+"timeouts:\n  connect: 10\nlog:\n  level: loud\n"))
	var all Errors
	require.ErrorAs(t, err, &all)
	require.Equal(t, Errors{
		{File: "a.yaml", Line: 6, Column: 3, Field: "timeouts.connect", Value: "10", Problem: "has no unit", Hint: durationHint},
		{File: "a.yaml", Line: 8, Column: 3, Field: "log.level", Value: "loud", Problem: "is not valid", Hint: "valid values: debug, info, warn, error"},
	}, all)
	var first *Error
	require.ErrorAs(t, err, &first)
	require.Same(t, all[0], first)
}

func TestParseStopsAfterManyProblems(t *testing.T) {
	var text strings.Builder
	text.WriteString(smallYAML + "routes:\n")
	for range 5000 {
		text.WriteString("  - {match: {service: a.B}, cluster: nowhere, x: y}\n")
	}
	_, err := Parse("a.yaml", []byte(text.String()))
	var all Errors
	require.ErrorAs(t, err, &all)
	require.Len(t, all, maxProblems+1)
	require.Equal(t, "a.yaml: there are more problems; these are the first 100", all[maxProblems].Error())
}

// Aliases that multiply, deep nesting and endless lists are what hostile or
// broken YAML looks like; each must end soon, with one message.
func TestParseBoundsItsWork(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'z'; c++ {
		previous := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+previous+", ", 9), ", ") + "]\n"
	}
	const tooLarge = `a.yaml: the file holds more than 100000 marks such as ":" and "-"; check that it is the right file`
	repeat := func(s string) string { return strings.Repeat(s, int(maxFileSize)/len(s)) }
	for name, c := range map[string]struct{ text, want string }{
		"alias bomb":         {bomb, `a.yaml:1:4: anchors ("&name") are not supported; write the value out where it is used, or put text that begins with "&" in quotes`},
		"brackets":           {strings.Repeat("[", maxMarks), "a.yaml:1:21: more than 20 levels inside one another; nothing here needs that many"},
		"braces":             {strings.Repeat("{a: ", maxMarks/3), "a.yaml:1:81: more than 20 levels inside one another; nothing here needs that many"},
		"dashes":             {strings.Repeat("- ", maxMarks), "a.yaml:1:41: more than 20 levels inside one another; nothing here needs that many"},
		"dashes at the end":  {"a:\n" + strings.Repeat("- ", 30), "a.yaml:2:41: more than 20 levels inside one another; nothing here needs that many"},
		"steps":              {steps(30), "a.yaml:21:22: more than 20 levels inside one another; nothing here needs that many"},
		"many items":         {"listeners:\n" + strings.Repeat("-\n", maxMarks/2), "a.yaml:10001:1: more than 10000 entries in one list or map; make it smaller"},
		"many keys":          {"clusters:\n" + strings.Repeat("  a:\n", maxMarks/3), "a.yaml:10002:4: more than 10000 entries in one list or map; make it smaller"},
		"closing brackets":   {strings.Repeat("]", 1000), "a.yaml:1:1: not valid YAML: could not find '[' character corresponding to ']'; remove it, or put the value in quotes"},
		"pairs in brackets":  {"a: [\n" + strings.Repeat("a: b\n", maxMarks-3) + "]", `a.yaml:2:1: a "key: value" pair stands in brackets; close them with "]" before it, or put text that holds ":" in quotes`},
		"file of brackets":   {repeat("["), tooLarge},
		"file of keys":       {repeat("a: b\n"), tooLarge},
		"file of commas":     {"[" + repeat("a,"), tooLarge},
		"file of words":      {repeat("word "), `a.yaml:1:1: the file is not a map; write "key: value" lines, such as "listeners:"`},
		"file of one string": {`log: {level: "` + repeat(`a\n`) + `"}`, ""},
		"file of comments":   {repeat("# comment\n"), tooLarge},
		"file of quotes":     {repeat("'' "), tooLarge},
		"file of spaces":     {repeat(" "), "a.yaml: the file holds no configuration; copy conf/proxy.yaml and change it"},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			_, err := Parse("a.yaml", []byte(c.text))
			if c.want != "" {
				require.EqualError(t, err, c.want)
			}
			require.Error(t, err)
			require.Less(t, time.Since(begin), 30*time.Second)
		})
	}
}

// steps returns n maps inside one another.
func steps(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// A large but sane configuration must load, and soon.
func TestParseLargeConfiguration(t *testing.T) {
	var text strings.Builder
	text.WriteString("listeners: [{address: :8888}]\nclusters:\n")
	for i := range 3000 {
		name := strings.Repeat("c", i%50+1) + string(rune('a'+i%26)) + time.Duration(i).String()
		text.WriteString("  " + name + ":\n    instances:\n      - 10.0.0.1:9000\n      - 10.0.0.2:9000\n")
		text.WriteString("    connections: 8\n")
	}
	text.WriteString("default: {cluster: ca0s}\nroutes:\n")
	for i := range 5000 {
		text.WriteString("  - match:\n      method: /pkg.Service" + time.Duration(i).String()[:1] + "/Method" + strings.Repeat("x", i%100) + string(rune('a'+i%26)) + "_" + strings.TrimRight(time.Duration(i*1e9).String(), "s") + "\n    cluster: ca0s\n")
	}
	c, err := Parse("a.yaml", []byte(strings.ReplaceAll(text.String(), "µ", "u")))
	require.NoError(t, err)
	require.Len(t, c.Clusters, 3000)
	require.Len(t, c.Routes, 5000)
}
