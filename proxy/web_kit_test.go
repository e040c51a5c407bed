package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// The tests of what is around calls put a whole proxy, with a configuration in YAML,
// between clients of all sorts and witnesses.

// edge is what a proxy is made of. Its clusters main and other are witnesses, and its
// schema echo is idl/echo.proto.
type edge struct {
	transport string // "" for that of the fault tests
	around    string // the interceptors of the listener for gRPC, as a list without brackets
	rest      string // of the configuration
	links     []string
	register  []func(*grpc.Server) // services of the witness main
	opts      []proxy.Option
	adapt     func(*conf.Config) // has the last word on the configuration; nil for none
}

// edgeProxy is a running proxy and its witnesses.
type edgeProxy struct {
	*dynamicSetup
	edge edge
	web  string // the URL of its listener for HTTP, "" for none
	http *http.Client
}

// jsonGateway is an http section with a gateway; what follows it is its.
const jsonGateway = `
http:
  listeners: [{address: 'localhost:0'}]
  gateway:
    schemas: [echo]
`

const toMain = "default: {cluster: main}\n"

func (e edge) start(t testing.TB) *edgeProxy {
	t.Helper()
	return e.startBefore(t, "")
}

// startAdapted is start with a configuration that adapt has the last word on.
func (e edge) startAdapted(t testing.TB, adapt func(*conf.Config)) *edgeProxy {
	t.Helper()
	e.adapt = adapt
	return e.start(t)
}

// startBefore is start with the address of the cluster other given; "" is a witness's.
func (e edge) startBefore(t testing.TB, other string) *edgeProxy {
	t.Helper()
	p := &edgeProxy{dynamicSetup: &dynamicSetup{main: startWitness(t, "main", e.register...), log: new(logBuffer)}, edge: e}
	if other == "" {
		p.other = startWitness(t, "other")
	} else {
		p.other = &witness{name: "other", addr: other}
	}
	cfg := p.config(t, e.rest)
	if e.adapt != nil {
		e.adapt(cfg)
	}
	p.faultProxy = startFaultProxy(t, cfg, append([]proxy.Option{proxy.WithLogger(p.log.logger())}, e.opts...)...)
	if addrs := p.p.HTTPAddrs(); len(addrs) > 0 {
		p.web = "http://" + addrs[0].String()
	}
	p.http = httpClient(t)
	return p
}

// httpClient is one with connections of its own.
func httpClient(t testing.TB) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: faultSafety, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// config returns the configuration with another rest, for reloads.
func (p *edgeProxy) config(t testing.TB, rest string) *conf.Config {
	t.Helper()
	text := dynamicYAML(p.main.addr, p.other.addr, rest)
	text = strings.Replace(text, "'127.0.0.1:0'", "'127.0.0.1:0', interceptors: ["+p.edge.around+"]", 1)
	if !strings.Contains(rest, "schemas:\n") {
		text += "schemas: {echo: {files: [../idl/echo.proto]}}\n"
	}
	cfg, err := conf.Parse("proxy.yaml", []byte(text), conf.GoInterceptors(p.edge.links...))
	require.NoError(t, err)
	switch {
	case p.edge.transport != "":
		cfg.Transport = p.edge.transport
	case onKitex():
		cfg.Transport = conf.TransportKitex
	}
	return cfg
}

// reload has the proxy go by a configuration with another rest. The route to the
// healthy backend is gone.
func (p *edgeProxy) reload(t testing.TB, rest string) {
	t.Helper()
	require.NoError(t, p.p.Reload(p.safe(), p.config(t, rest)))
}

// answered is a response of HTTP.
type answered struct {
	status int
	header http.Header
	body   string
}

// ask makes a request like "POST /path", with headers like "Name: value".
func (p *edgeProxy) ask(t testing.TB, what, body string, headers ...string) answered {
	t.Helper()
	return p.askAt(t, p.web, what, body, headers...)
}

func (p *edgeProxy) askAt(t testing.TB, base, what, body string, headers ...string) answered {
	t.Helper()
	resp := p.begin(p.safe(), t, base, what, body, headers...)
	all, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return answered{resp.StatusCode, resp.Header, strings.TrimSpace(string(all))}
}

// begin makes a request whose response comes by and by, and is to be closed.
func (p *edgeProxy) begin(ctx context.Context, t testing.TB, base, what, body string, headers ...string) *http.Response {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	resp, err := p.http.Do(req)
	require.NoError(t, err)
	return resp
}

// fields returns the JSON object that a response is.
func (a answered) fields(t testing.TB) map[string]any {
	t.Helper()
	return object(t, a.body)
}

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &o), text)
	return o
}

// nextLine returns the next line that is not empty.
func nextLine(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
}

// hashOf is an API key as configurations have it.
func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// aliceKey is an interceptor "clients" that knows Alice by "alice's key".
var aliceKey = `
interceptors:
  clients: {api_keys: {keys: [{name: alice, sha256: ` + hashOf("alice's key") + `}]}}
`

// goroutinesIn counts the goroutines that are somewhere in a package of the module.
func goroutinesIn(pkg string) (n int) {
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, one := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(one, "kitexproxy/"+pkg+".") {
			n++
		}
	}
	return n
}

// peerNote is a guard that notes the addresses of clients.
func peerNote(j *journal) intercept.Guard {
	return func(c *intercept.Call) error {
		j.note("%s", c.Peer())
		return nil
	}
}
