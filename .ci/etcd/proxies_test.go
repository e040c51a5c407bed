package etcd

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/proxy/cli"
)

// configKey is where the proxies of a test find their configuration.
const configKey = "kitexproxy/edge"

// serving is a proxy as the binary runs it, with its configuration in etcd.
type serving struct {
	conn *grpc.ClientConn
	log  *logs
}

// logs is what a proxy logs.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) find(pattern string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return regexp.MustCompile(pattern).FindStringSubmatch(l.text.String())
}

// await waits until the pattern is logged, and returns its first group.
func (l *logs) await(t *testing.T, pattern string) string {
	t.Helper()
	var found []string
	require.Eventually(t, func() bool { found = l.find(pattern); return found != nil }, patient, 10*time.Millisecond, "%s", pattern)
	return found[1]
}

func serve(t *testing.T, m *member) *serving {
	t.Helper()
	s := &serving{log: new(logs)}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { // ends with ctx
		code <- cli.Main(ctx, []string{"serve", "-c", "etcd://" + m.address + "/" + configKey}, &bytes.Buffer{}, s.log)
	}()
	t.Cleanup(func() { cancel(); assert.Zero(t, <-code) })
	var err error
	s.conn, err = grpc.NewClient("passthrough:///"+s.log.await(t, `msg=ready listening=(\S+)`),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

// check makes a call through the proxy.
func (s *serving) check(t *testing.T) error {
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	_, err := healthpb.NewHealthClient(s.conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// configure puts a configuration into etcd whose routes are given. Its cluster is what
// is registered there.
func configure(t *testing.T, m *member, client *clientv3.Client, routes string) {
	t.Helper()
	_, err := client.Put(t.Context(), configKey, fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
clusters:
  orders: {discovery: {etcd: {endpoints: [%q]}, service: orders}}
%s`, m.address, routes))
	require.NoError(t, err)
}

const (
	all  = "default: {cluster: orders}\n"
	none = "routes: [{match: {service: a.B}, cluster: orders}]\n"
)

// TestProxiesShareAConfiguration: three of them go by what is in etcd, take in another
// configuration by themselves, and keep theirs when it is not valid.
func TestProxiesShareAConfiguration(t *testing.T) {
	m := startEtcd(t)
	client := m.client(t, "", "")
	register(t, client, startBackend(t))
	configure(t, m, client, all)
	var proxies []*serving
	for range 3 {
		proxies = append(proxies, serve(t, m))
	}
	for _, p := range proxies {
		require.NoError(t, p.check(t))
	}
	configure(t, m, client, none)
	for _, p := range proxies {
		require.Eventually(t, func() bool { return status.Code(p.check(t)) == codes.Unimplemented }, patient, 10*time.Millisecond)
	}
	configure(t, m, client, "routes: nonsense\n")
	for _, p := range proxies {
		require.Equal(t, configKey, p.log.await(t, `the configuration is not valid.*`+regexp.QuoteMeta(m.address)+`/([a-z/]+):4`))
		require.Equal(t, codes.Unimplemented, status.Code(p.check(t)))
	}
	configure(t, m, client, all)
	for _, p := range proxies {
		require.Eventually(t, func() bool { return p.check(t) == nil }, patient, 10*time.Millisecond)
	}
}

// TestInstancesChangeUnderLoad: no call fails while instances are registered and
// taken out again, nor while etcd is away.
func TestInstancesChangeUnderLoad(t *testing.T) {
	m := startEtcd(t)
	client := m.client(t, "", "")
	stays := startBackend(t)
	register(t, client, stays)
	configure(t, m, client, all)
	p := serve(t, m)
	require.Eventually(t, func() bool { return p.check(t) == nil }, patient, 10*time.Millisecond)

	var calls atomic.Int64
	load, stop := context.WithCancel(t.Context())
	failed := make(chan error, 8)
	for range cap(failed) {
		go func() { // ends with load
			for load.Err() == nil {
				if err := p.check(t); err != nil && load.Err() == nil {
					failed <- err
					return
				}
				calls.Add(1)
			}
			failed <- nil
		}()
	}
	more := func(n int64) { // calls have been made
		t.Helper()
		before := calls.Load()
		require.Eventually(t, func() bool { return calls.Load() >= before+n || len(failed) > 0 }, patient, time.Millisecond)
	}
	for range 20 {
		goes := startBackend(t)
		register(t, client, goes)
		more(100)
		deregister(t, client, goes)
		more(100)
	}
	m.etcd.Close()
	more(500)
	m.start(t)
	stop()
	for range cap(failed) {
		require.NoError(t, <-failed)
	}
	t.Logf("%d calls", calls.Load())
}
