package cli_test

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/client/streamclient"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", name))
	require.NoError(t, err)
	return string(b)
}

// block returns the README's first block in a language that begins with some
// text.
func block(t *testing.T, language, begins string) string {
	t.Helper()
	_, rest, found := strings.Cut(readFile(t, "README.md"), "```"+language+"\n"+begins)
	require.True(t, found, "the README has no such block")
	text, _, found := strings.Cut(rest, "```\n")
	require.True(t, found, "the block has no end")
	return begins + text
}

// The filter of the README is that of ExampleWithFilters, and the interceptor that of
// ExampleWithInterceptors.
func TestREADMEIsTheExamples(t *testing.T) {
	assert.Equal(t, 2, inExamples(t, block(t, "go", "package main\n")))
	assert.Equal(t, 1, inExamples(t, block(t, "go", interceptorBegins)))
}

// inExamples checks that the declarations of a file are in the examples, too, and
// returns how many there are.
func inExamples(t *testing.T, text string) int {
	t.Helper()
	example := readFile(t, "proxy/example_test.go")
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "main.go", text, parser.SkipObjectResolution)
	require.NoError(t, err)
	checked := 0
	for _, decl := range file.Decls {
		if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.IMPORT {
			continue
		}
		source := text[files.Position(decl.Pos()).Offset:files.Position(decl.End()).Offset]
		assert.True(t, strings.Contains(example, "\n"+source+"\n"), "proxy/example_test.go has not\n%s", source)
		checked++
	}
	return checked
}

// interceptorBegins is what the README's interceptor begins with.
const interceptorBegins = "package main\n\nimport (\n\t\"context\"\n\t\"log/slog\"\n"

// What the README says to do with them is done, and what it says comes of it.
func TestREADMEFilterAndInterceptorRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary")
	}
	mainFile := readFile(t, "main.go")
	changed := mainFile
	for _, line := range []string{"unary.OnRequest(hidePasswords),", "needTenant,"} {
		require.Contains(t, changed, "// "+line)
		changed = strings.Replace(changed, "// "+line, line, 1)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for name, text := range map[string]string{
		"main.go": changed, "hide.go": block(t, "go", "package main\n"), "tenant.go": block(t, "go", interceptorBegins),
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		replace[filepath.Join(absolute(t, "../.."), name)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, overlay, 0o600))
	binary := filepath.Join(dir, "kitexproxy")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlayFile, "-o", binary, "../..").CombinedOutput()
	require.NoError(t, err, "%s", out)

	p := launch(t, binary, tryFlags()...)
	address := p.stderr.await(t, readyLine)
	tenant := metadata.AppendToOutgoingContext(t.Context(), "x-tenant", "Acme")
	for text, reply := range map[string]string{"my password is rosebud": "***", "hello": "hello"} {
		got, err := sayTo(tenant, t, address, text)
		require.NoError(t, err)
		assert.Equal(t, reply, got)
	}
	_, err = sayTo(t.Context(), t, address, "hello")
	assert.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	p.signal(t, os.Interrupt)
	assert.Equal(t, 0, p.code(t), "%s", p.stderr)
}

// sayTo makes a unary call and returns the text of the reply.
func sayTo(ctx context.Context, t *testing.T, address, text string) (string, error) {
	t.Helper()
	c, err := echoservice.NewClient("echo", client.WithHostPorts(address))
	require.NoError(t, err)
	reply, err := c.Unary(ctx, &echo.EchoRequest{Message: text})
	return reply.GetMessage(), err
}

func TestREADMERulesRun(t *testing.T) {
	text := block(t, "yaml", "listeners:\n")
	for from, to := range map[string]string{
		"127.0.0.1:8889": "127.0.0.1:0", "127.0.0.1:9000": startBackend(t), "idl/echo.proto": absolute(t, "../../idl/echo.proto"),
	} {
		require.Contains(t, text, from)
		text = strings.ReplaceAll(text, from, to)
	}
	cfg, err := conf.Parse("rules.yaml", []byte(text))
	require.NoError(t, err)
	modes := []conf.Mode{cfg.Routes[0].Mode, cfg.Routes[1].Mode, cfg.Default.Mode}
	assert.Equal(t, []conf.Mode{conf.ModeStruct, conf.ModeDynamic, conf.ModeFrame}, modes)

	p := startWith(t, []proxy.Option{echoService}, "serve", "-c", writeFile(t, text))
	address := p.address(t)

	reply, err := expand(t, address, "my password is rosebud")
	require.NoError(t, err)
	assert.Equal(t, "***", reply)
	_, err = expand(t, address, "a secret")
	assert.Equal(t, codes.PermissionDenied, status.Code(err))
	assert.Equal(t, "no secrets for 127.0.0.1", status.Convert(err).Message())
}

// Who has which key may do what the README says, and the hashes are those of the keys.
func TestREADMEKeysRun(t *testing.T) {
	text := block(t, "yaml", "listeners:\n  - address: 127.0.0.1:8890\n")
	for from, to := range map[string]string{
		"127.0.0.1:8890": "127.0.0.1:0", "127.0.0.1:9902": "127.0.0.1:0", "127.0.0.1:9000": startBackend(t),
		"access_log: {}\n": "", // which is for the standard error of the process
	} {
		require.Contains(t, text, from)
		text = strings.ReplaceAll(text, from, to)
	}
	p := start(t, "serve", "-c", writeFile(t, text))
	address := p.address(t)
	for key, code := range map[string]codes.Code{"key": codes.OK, "bob": codes.PermissionDenied, "": codes.Unauthenticated, "other": codes.Unauthenticated} {
		ctx := t.Context()
		if key != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-api-key", key)
		}
		_, err := sayTo(ctx, t, address, "hello")
		assert.Equal(t, code, status.Code(err), "key %q: %v", key, err)
	}
}

// expand makes a call of Expand and returns the text of the first reply.
func expand(t *testing.T, address, text string) (string, error) {
	t.Helper()
	//lint:ignore SA1019 every option of Kitex's generated stream clients is deprecated
	c, err := echoservice.NewStreamClient("echo", streamclient.ConvertOptionFrom(client.WithHostPorts(address)))
	require.NoError(t, err)
	stream, err := c.Expand(t.Context(), &echo.EchoRequest{Message: text, Count: 1})
	require.NoError(t, err)
	reply, err := stream.Recv()
	return reply.GetMessage(), err
}

// TestREADMEExplainsEveryKey: the table of the configuration is whole.
func TestREADMEExplainsEveryKey(t *testing.T) {
	explained := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		parent := ""
		for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			key := strings.NewReplacer("[]", "", ".NAME", "").Replace(quoted[1])
			if strings.HasPrefix(key, ".") {
				key = parent + key
			}
			parent = key[:max(0, strings.LastIndexByte(key, '.'))]
			explained[key] = true
		}
	}
	for _, key := range keysOf(reflect.TypeFor[conf.Config](), "") {
		assert.True(t, explained[key], "the README's table has no %s", key)
	}
}

// keysOf returns the keys of a configuration that have values. What the default
// has are the keys of routes, and the keys of a rule's metadata are told together.
func keysOf(of reflect.Type, path string) []string {
	for of.Kind() == reflect.Map || of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || path == "default" || strings.HasSuffix(path, ".metadata") {
		return []string{path}
	}
	var keys []string
	for field := range of.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case !field.IsExported():
		case options == "inline":
			keys = append(keys, keysOf(field.Type, path)...)
		default:
			keys = append(keys, keysOf(field.Type, strings.TrimPrefix(path+"."+name, "."))...)
		}
	}
	return keys
}

// TestREADMEExplainsEveryReason: so is that of what goes wrong.
func TestREADMEExplainsEveryReason(t *testing.T) {
	readme := readFile(t, "README.md")
	reasons := regexp.MustCompile(`Reason = "([a-z-]+)"`).FindAllStringSubmatch(readFile(t, "handler/stream/failure.go"), -1)
	require.NotEmpty(t, reasons)
	for _, reason := range reasons {
		assert.True(t, strings.Contains(readme, "\n| `"+reason[1]+"` | "), "the README's table has no %s", reason[1])
	}
}
