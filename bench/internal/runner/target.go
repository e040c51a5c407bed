package runner

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/template"

	"github.com/kitexproxy/kitexproxy/bench/internal/orders"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
)

// Target is one way from the loader to the backend.
type Target struct {
	Name string
	// Command is the proxy's command line. It is asked anew for each measurement, with addresses that are free.
	// A target without one lets the loader reach the backend directly.
	Command func(p Proxy) ([]string, error)
	// Program must be installed for the target to run; empty if the bench brings it along.
	Program string
	// Built tells that the target is the kitexproxy binary.
	Built bool
	// Protocols are what it can be loaded in; nil is gRPC alone.
	Protocols []scenario.Protocol
	// Key is the API key that callers send; empty for none.
	Key string
	// Version is a command line that prints the version first.
	Version []string
}

// Proxy is what a target's command line is made of.
type Proxy struct {
	Listen, Backend string // host:port
	Dir             string // for files that are removed after the run
	Self            string // this program
	Kitexproxy      string // the kitexproxy binary
	Args            []string
	Procs           int // processors to use; 0 for all
}

// Targets are all there are, in the order of the report. To add one, add it here; it has to listen in clear-text
// HTTP/2 and to end on SIGTERM.
//
// Every proxy may use all processors and keeps its defaults, with two exceptions for nghttpx and haproxy: their limit
// of 100 streams a connection would refuse the idle ones, and their fixed windows of 64 KiB would be what is measured
// with large messages (nghttpx: twice the processor time), where grpc-go and Kitex let theirs grow by themselves.
var Targets = []Target{
	{Name: "direct", Protocols: []scenario.Protocol{scenario.GRPC, scenario.HTTP}},
	{Name: "kitexproxy", Command: kitexproxy, Built: true},
	{Name: "kitexproxy-kitex", Command: kitexproxyKitex, Built: true},
	{Name: "routed", Command: routed, Built: true},
	{Name: "keyed", Command: kitexproxy, Built: true, Key: apiKey},
	{Name: "observed", Command: observed, Built: true, Key: apiKey},
	{Name: "struct-read", Command: typed("read")},
	{Name: "struct-change", Command: typed("change")},
	{Name: "dynamic-rule", Command: dynamicRule, Built: true},
	{Name: "grpc-go-decode", Command: ownProxy("decode")},
	{Name: "mwitkow", Command: ownProxy("mwitkow")},
	{Name: "nghttpx", Command: nghttpx, Program: "nghttpx", Version: []string{"nghttpx", "--version"}},
	{Name: "haproxy", Command: haproxy, Program: "haproxy", Version: []string{"haproxy", "-v"}},
	{Name: "gateway", Command: gateway, Built: true, Protocols: []scenario.Protocol{scenario.JSON}},
	{Name: "grpc-gateway", Command: ownProxy("orders"), Protocols: []scenario.Protocol{scenario.JSON}},
	{Name: "function", Command: function, Built: true, Protocols: []scenario.Protocol{scenario.HTTP}},
	{Name: "reverse-proxy", Command: ownProxy("reverse"), Protocols: []scenario.Protocol{scenario.HTTP}},
}

// The targets of runs for which no targets are named.
var (
	DefaultTargets = []string{
		"direct", "kitexproxy", "kitexproxy-kitex", "mwitkow", "nghttpx", "haproxy",
		"gateway", "grpc-gateway", "function", "reverse-proxy",
	}
	ScalingTargets = []string{"kitexproxy", "mwitkow", "nghttpx"}
	AttackTargets  = []string{"kitexproxy", "kitexproxy-kitex", "nghttpx"}
)

func kitexproxy(p Proxy) ([]string, error) {
	return p.goProgram(append([]string{p.Kitexproxy, "serve", "--listen", p.Listen, "--backend", p.Backend}, p.Args...)), nil
}

// kitexConf is what kitexproxy makes of --listen and --backend, but for the transport.
var kitexConf = template.Must(template.New("kitex.yaml").Parse(`listeners:
  - address: {{.Listen}}
clusters:
  backend:
    instances:
      - {{.Backend}}
default:
  cluster: backend
transport: kitex
`))

func kitexproxyKitex(p Proxy) ([]string, error) {
	return p.serve(kitexConf)
}

// routedConf has the calls go by the last of almost 10,000 routes of all kinds, to a cluster with everything that a call's
// way is asked for: balancing by what is under way, ejection, active checks, a slow start, limits, rules of the pool.
var routedConf = template.Must(template.New("routed.yaml").Parse(`listeners:
  - address: {{.Listen}}
clusters:
  backend:
    instances:
      - {{.Backend}}
    balance: least_active
    health:
      check: {interval: 1s}
      eject: {consecutive: 5, failure_percent: 50}
      slow_start: 1s
    limits: {calls: 100000, pending: 10000}
    pool: {ttl: 1h, streams_per_connection: 10000}
routes:
{{- range $i, $_ := .Others}}
  - {match: {service: other.v1.Service{{$i}}}, cluster: backend}
  - {match: {method: /other.v1.More{{$i}}/Call}, cluster: backend}
  - {match: {package: other.p{{$i}}}, cluster: backend}
  - {match: {authority: host{{$i}}.example.com}, cluster: backend}
{{- end}}
  - {match: {service: bench.Bench}, cluster: backend}
`))

func routed(p Proxy) ([]string, error) {
	return p.serve(routedConf)
}

// Others is as many as a file of routes has of each kind.
func (Proxy) Others() []struct{} { return make([]struct{}, 2499) }

// apiKey is what callers of observed send, and those of keyed.
const apiKey = "bench-8d1f5b0e6c7a4d0f9a53e2b7c1d4f6a8"

// KeyHash is what a file has of apiKey.
func (Proxy) KeyHash() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(apiKey))) }

// observedConf has everything that tells of calls, and asks callers who they are. The backend is also what takes spans.
var observedConf = template.Must(template.New("observed.yaml").Parse(`listeners:
  - address: {{.Listen}}
    interceptors: [clients]
clusters:
  backend:
    instances:
      - {{.Backend}}
default:
  cluster: backend
interceptors:
  clients:
    api_keys:
      keys:
        - {name: loader, sha256: {{.KeyHash}}}
access_log:
  output: access.log
tracing:
  otlp: {endpoint: "http://{{.Backend}}"}
  sample_percent: 1
admin:
  address: unix://{{.Dir}}/admin.sock
`))

func observed(p Proxy) ([]string, error) {
	return p.serve(observedConf)
}

// gatewayConf has no interceptors; the gRPC listener is there because there must be one.
var gatewayConf = template.Must(template.New("gateway.yaml").Parse(`listeners:
  - address: unix://{{.Dir}}/grpc.sock
clusters:
  backend:
    instances:
      - {{.Backend}}
schemas:
  orders:
    files: [orders.proto]
default:
  cluster: backend
http:
  listeners:
    - address: {{.Listen}}
  gateway:
    schemas: [orders]
`))

func gateway(p Proxy) ([]string, error) {
	if err := os.WriteFile(filepath.Join(p.Dir, "orders.proto"), []byte(orders.Proto), 0o600); err != nil {
		return nil, err
	}
	return p.serve(gatewayConf)
}

// functionConf has one function; listener and cluster are there because there must be one of each.
var functionConf = template.Must(template.New("function.yaml").Parse(`listeners:
  - address: unix://{{.Dir}}/grpc.sock
clusters:
  backend:
    instances:
      - {{.Backend}}
default:
  cluster: backend
http:
  listeners:
    - address: {{.Listen}}
  functions:
    routes:
      echo:
        url: http://{{.Backend}}
`))

func function(p Proxy) ([]string, error) {
	return p.serve(functionConf)
}

// ownProxy is one of this program's commands.
func ownProxy(command string) func(p Proxy) ([]string, error) {
	return func(p Proxy) ([]string, error) {
		return p.goProgram([]string{p.Self, command, "-listen", p.Listen, "-backend", p.Backend}), nil
	}
}

// typed is kitexproxy with filters on every message.
func typed(filters string) func(p Proxy) ([]string, error) {
	return func(p Proxy) ([]string, error) {
		return p.goProgram([]string{p.Self, "typed", "-listen", p.Listen, "-backend", p.Backend, "-filters", filters}), nil
	}
}

// dynamicProto describes the service of package backend.
var dynamicProto = template.Must(template.New("bench.proto").Parse(`syntax = "proto3";
package bench;
service Bench {
  rpc Unary(Message) returns (Message);
  rpc Chat(stream Message) returns (stream Message);
  rpc Stream(StreamRequest) returns (stream Message);
}
message Message { bytes payload = 1; }
message StreamRequest { int32 count = 1; int32 size = 2; }
`))

// dynamicConf has one rule for every message.
var dynamicConf = template.Must(template.New("dynamic.yaml").Parse(`listeners:
  - address: {{.Listen}}
clusters:
  backend:
    instances:
      - {{.Backend}}
schemas:
  bench:
    files: [bench.proto]
routes:
  - match:
      service: bench.Bench
    cluster: backend
    mode: dynamic
    schema: bench
    message_limit: 64MiB
    rules:
      - {name: sent, on: request, method: Unary, if: size(message.payload) == 17, reject: {code: INVALID_ARGUMENT}}
      - {name: said, on: request, method: Chat, if: size(message.payload) == 17, reject: {code: INVALID_ARGUMENT}}
      - {name: got, on: response, method: Stream, if: size(message.payload) == 17, drop: true}
`))

// dynamicRule is kitexproxy with a rule in the configuration for each message of a request, or of a server stream.
func dynamicRule(p Proxy) ([]string, error) {
	if _, err := p.write(dynamicProto); err != nil {
		return nil, err
	}
	return p.serve(dynamicConf)
}

// serve is the kitexproxy binary with a file made of the template.
func (p Proxy) serve(t *template.Template) ([]string, error) {
	path, err := p.write(t)
	if err != nil {
		return nil, err
	}
	return p.goProgram(append([]string{p.Kitexproxy, "serve", "-c", path}, p.Args...)), nil
}

// goProgram holds a program in Go to the processors it may use.
func (p Proxy) goProgram(argv []string) []string {
	if p.Procs == 0 {
		return argv
	}
	return append([]string{"env", fmt.Sprintf("GOMAXPROCS=%d", p.Procs)}, argv...)
}

// write makes a file for the proxy to read, named like the template.
func (p Proxy) write(t *template.Template) (path string, err error) {
	path = filepath.Join(p.Dir, t.Name())
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := errors.Join(t.Execute(f, p), f.Close()); err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return path, nil
}

// nghttpx has one worker unless told.
func nghttpx(p Proxy) ([]string, error) {
	workers := p.Procs
	if workers == 0 {
		workers = runtime.NumCPU()
	}
	return []string{
		"nghttpx",
		"--conf=/dev/null",
		"--frontend=" + commaAddr(p.Listen) + ";no-tls",
		"--backend=" + commaAddr(p.Backend) + ";;proto=h2",
		fmt.Sprintf("--workers=%d", workers),
		"--frontend-http2-max-concurrent-streams=2000",
		"--frontend-http2-window-size=1M",
		"--frontend-http2-connection-window-size=4M",
		"--backend-http2-window-size=1M",
		"--backend-http2-connection-window-size=4M",
		"--accesslog-file=/dev/null",
		"--errorlog-file=/dev/stderr",
	}, nil
}

// commaAddr writes host:port the way nghttpx wants it.
func commaAddr(addr string) string { return strings.Replace(addr, ":", ",", 1) }

// haproxyConf raises maxconn too: haproxy counts each stream as a connection.
var haproxyConf = template.Must(template.New("haproxy.cfg").Parse(`global
    maxconn 8000
    tune.h2.max-concurrent-streams 2000
    tune.h2.initial-window-size 1048576
{{- if .Procs}}
    nbthread {{.Procs}}
{{- end}}
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
frontend clients
    bind {{.Listen}} proto h2
    default_backend bench
backend bench
    http-reuse always
    server backend {{.Backend}} proto h2
`))

func haproxy(p Proxy) ([]string, error) {
	path, err := p.write(haproxyConf)
	if err != nil {
		return nil, err
	}
	return []string{"haproxy", "-db", "-f", path}, nil
}

// PickTargets turns names into targets. No names mean all of defaults (nil for all there are) that are installed; of
// those that are not it returns the names.
func PickTargets(names, defaults []string) (picked []Target, missing []string, err error) {
	if len(names) == 0 {
		for _, t := range Targets {
			if defaults != nil && !slices.Contains(defaults, t.Name) {
				continue
			}
			if t.installed() {
				picked = append(picked, t)
			} else {
				missing = append(missing, t.Name)
			}
		}
		return picked, missing, nil
	}
	for _, name := range names {
		t, err := targetByName(name)
		if err != nil {
			return nil, nil, err
		}
		if !t.installed() {
			return nil, nil, fmt.Errorf("target %s: no program %s here; see README.md for how to install it", name, t.Program)
		}
		picked = append(picked, t)
	}
	return picked, nil, nil
}

func targetByName(name string) (Target, error) {
	var known []string
	for _, t := range Targets {
		if t.Name == name {
			return t, nil
		}
		known = append(known, t.Name)
	}
	return Target{}, fmt.Errorf("no target %q; there are %s", name, strings.Join(known, ", "))
}

// Speaks tells whether the target can be loaded in a protocol.
func (t Target) Speaks(p scenario.Protocol) bool {
	if t.Protocols == nil {
		return p == scenario.GRPC
	}
	return slices.Contains(t.Protocols, p)
}

func (t Target) installed() bool {
	if t.Program == "" {
		return true
	}
	_, err := exec.LookPath(t.Program)
	return err == nil
}

// version is the first line of what the program says of itself, or nothing.
func (t Target) version() string {
	if t.Version == nil {
		return ""
	}
	out, err := exec.Command(t.Version[0], t.Version[1:]...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
