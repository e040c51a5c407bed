package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// The tests of clusters, TLS and reloads put a whole proxy between ends of grpc-go, and
// ask which instance has answered.

// namedBackend is a grpc-go server that says its name in a header, and sends each
// message back.
type namedBackend struct {
	name, addr string
	server     *grpc.Server
	health     *health.Server
	failing    atomic.Bool   // calls end with UNAVAILABLE
	hold       chan struct{} // calls wait until it is closed; nil: they do not

	mu    sync.Mutex
	calls int
	peers map[string]bool // where connections with calls have come from
}

const namedHeader = "answered-by"

// startNamed runs a backend until the test ends; encryption is nil for plaintext.
func startNamed(t testing.TB, name string, encryption *tls.Config) *namedBackend {
	t.Helper()
	b := newNamed(name, encryption)
	b.serve(t)
	return b
}

func newNamed(name string, encryption *tls.Config) *namedBackend {
	b := &namedBackend{name: name, health: health.NewServer(), peers: make(map[string]bool)}
	opts := []grpc.ServerOption{grpc.ForceServerCodec(eitherCodec{}), grpc.UnknownServiceHandler(b.carry)}
	if encryption != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(encryption)))
	}
	b.server = grpc.NewServer(opts...)
	grpc_health_v1.RegisterHealthServer(b.server, b.health)
	return b
}

func (b *namedBackend) serve(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- b.server.Serve(ln) }() // ends with Stop
	t.Cleanup(func() { b.server.Stop(); <-served })
}

func (b *namedBackend) carry(_ any, ss grpc.ServerStream) error {
	from, _ := peer.FromContext(ss.Context())
	b.mu.Lock()
	b.calls++
	b.peers[from.Addr.String()] = true
	b.mu.Unlock()
	if b.failing.Load() {
		return status.Error(codes.Unavailable, "failing")
	}
	if err := ss.SendHeader(metadata.Pairs(namedHeader, b.name)); err != nil {
		return err
	}
	if b.hold != nil {
		<-b.hold
	}
	return echoes(0, ss)
}

// began is how many calls have come.
func (b *namedBackend) began() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

// from returns where the connections of calls have come from so far.
func (b *namedBackend) from() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.peers)
}

// startNameds runs backends called by a letter and a number from 0.
func startNameds(t testing.TB, letter string, n int) []*namedBackend {
	t.Helper()
	var all []*namedBackend
	for i := range n {
		all = append(all, startNamed(t, fmt.Sprint(letter, i), nil))
	}
	return all
}

func addressesOf(backends []*namedBackend) []string {
	var all []string
	for _, b := range backends {
		all = append(all, b.addr)
	}
	return all
}

// clusterProxy is a running proxy that remembers what it was started with.
type clusterProxy struct {
	*faultProxy
	cfg *conf.Config
}

func startCluster(t testing.TB, cfg *conf.Config, opts ...proxy.Option) *clusterProxy {
	t.Helper()
	return &clusterProxy{startFaultProxy(t, cfg, opts...), cfg}
}

// startWith runs a proxy whose calls go to the cluster "default" of some backends, of
// which adapt, unless it is nil, has the last word.
func startWith(t testing.TB, adapt func(c *conf.Cluster), backends ...*namedBackend) *clusterProxy {
	t.Helper()
	cfg := faultConfig(addressesOf(backends)...)
	if adapt != nil {
		adapt(cfg.Clusters["default"])
	}
	return startCluster(t, cfg)
}

// answeredBy makes a call and returns the name of the backend that has answered.
func (f *clusterProxy) answeredBy(pairs ...string) string {
	f.t.Helper()
	name, err := askName(f.safe(), f.client, faultMethod, pairs...)
	require.NoError(f.t, err)
	return name
}

// askName makes a call with some metadata and returns which backend has answered.
func askName(ctx context.Context, cc grpc.ClientConnInterface, method string, pairs ...string) (string, error) {
	m, header := []byte("who"), metadata.MD{}
	err := cc.Invoke(metadata.AppendToOutgoingContext(ctx, pairs...), method, &m, &m, grpc.Header(&header))
	return strings.Join(header.Get(namedHeader), ","), err
}

// answers makes n calls, ten at a time, and counts which backends have answered.
func (f *clusterProxy) answers(n int, pairs ...string) map[string]int {
	f.t.Helper()
	var mu sync.Mutex
	counts := make(map[string]int)
	ctx := f.safe()
	var all sync.WaitGroup
	var next atomic.Int64
	for range 10 {
		all.Go(func() {
			for next.Add(1) <= int64(n) {
				name, err := askName(ctx, f.client, faultMethod, pairs...)
				if err != nil {
					name = "error: " + err.Error()
				}
				mu.Lock()
				counts[name]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return counts
}

// load makes calls, four at a time, until the function that it returns is called, which
// checks that none has failed and returns how many there were.
func (f *clusterProxy) load() (stop func() int) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	calls, failed := f.safe(), make(chan error, 1)
	var running sync.WaitGroup
	var made atomic.Int64
	for range 4 {
		running.Go(func() { // ends with stop, or the test
			for ctx.Err() == nil {
				if _, err := askName(calls, f.client, faultMethod); err != nil {
					cancel()
					select {
					case failed <- err:
					default: // another one has
					}
				}
				made.Add(1)
			}
		})
	}
	end := func() {
		cancel()
		running.Wait()
	}
	f.t.Cleanup(end)
	return func() int {
		end()
		select {
		case err := <-failed:
			require.NoError(f.t, err, "call %d or so", made.Load())
		default:
		}
		return int(made.Load())
	}
}

// reload has the proxy go by another configuration, with the route to the healthy
// backend.
func (f *clusterProxy) reload(cfg *conf.Config) {
	f.t.Helper()
	require.NoError(f.t, f.p.Reload(f.safe(), f.complete(cfg)))
}

// complete gives a configuration what startFaultProxy does, and so leaves the cluster
// of the healthy backend as it is.
func (f *clusterProxy) complete(cfg *conf.Config) *conf.Config {
	cfg.Clusters["healthy"] = f.cfg.Clusters["healthy"]
	cfg.Routes = append(cfg.Routes, f.cfg.Routes[len(f.cfg.Routes)-1])
	return cfg
}

// instanceFile is a file of discovery.
type instanceFile struct {
	t    testing.TB
	path string
}

func newInstanceFile(t testing.TB, backends ...*namedBackend) *instanceFile {
	f := &instanceFile{t: t, path: filepath.Join(t.TempDir(), "instances.yaml")}
	f.write(backends...)
	return f
}

func (f *instanceFile) write(backends ...*namedBackend) {
	f.t.Helper()
	var list strings.Builder
	for _, b := range backends {
		list.WriteString("- " + b.addr + "\n")
	}
	require.NoError(f.t, os.WriteFile(f.path+".new", []byte(list.String()), 0o600))
	require.NoError(f.t, os.Rename(f.path+".new", f.path))
}

// discovered is the configuration of a cluster that is found in the file.
func (f *instanceFile) discovered() *conf.Cluster {
	// The file tells of its changes; nothing is to be found by asking often.
	return &conf.Cluster{Discovery: &conf.Discovery{File: f.path, Refresh: conf.Duration(time.Hour)}, Connections: 4}
}

// withLog has the proxy's log in a buffer.
func withLog() (*logBuffer, proxy.Option) {
	l := new(logBuffer)
	return l, proxy.WithLogger(l.logger())
}
