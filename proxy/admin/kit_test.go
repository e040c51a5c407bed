package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safety ends what would otherwise hang; no test passes by waiting for it.
const safety = 60 * time.Second

// never is a refresh that no test waits for.
const never = time.Hour

// served is an Admin on a real listener.
type served struct {
	*Admin
	address string
	client  *http.Client
	stop    func() error // ends Serve, and returns what it does
}

// serve has an Admin answer on a loopback address until the test ends.
func serve(t *testing.T, opts Options) *served {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	opts.Logger = slog.New(slog.DiscardHandler)
	transport := new(http.Transport)
	s := &served{Admin: New(opts), address: ln.Addr().String(), client: &http.Client{Transport: transport, Timeout: safety}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }() // ends with ctx
	s.stop = func() error {
		cancel()
		err := <-done
		done <- err // for the next one to ask
		return err
	}
	t.Cleanup(func() {
		require.NoError(t, s.stop())
		transport.CloseIdleConnections()
	})
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *served) do(t *testing.T, r *http.Request) answer {
	t.Helper()
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (s *served) request(t *testing.T, verb, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), verb, "http://"+s.address+path, nil)
	require.NoError(t, err)
	return r
}

func (s *served) get(t *testing.T, path string) answer {
	t.Helper()
	return s.do(t, s.request(t, http.MethodGet, path))
}

// readiness is a Ready that tests change.
type readiness struct{ err atomic.Pointer[error] }

func (r *readiness) set(err error) { r.err.Store(&err) }

func (r *readiness) Ready() error {
	if err := r.err.Load(); err != nil {
		return *err
	}
	return nil
}

var errNoSchema = errors.New("no schema yet: connection refused")

func TestUpAndReady(t *testing.T) {
	ready := new(readiness)
	s := serve(t, Options{Ready: ready.Ready})
	up := s.get(t, "/healthz")
	assert.Equal(t, 200, up.status)
	assert.Equal(t, "ok\n", up.body)
	assert.Equal(t, "no-store", up.header.Get("Cache-Control"))
	assert.Equal(t, 200, s.get(t, "/readyz").status)

	ready.set(errNoSchema)
	assert.Equal(t, 200, s.get(t, "/healthz").status, "it is up all the same")
	no := s.get(t, "/readyz")
	assert.Equal(t, 503, no.status)
	assert.Equal(t, "no schema yet: connection refused\n", no.body)

	ready.set(nil)
	assert.Equal(t, 200, s.get(t, "/readyz").status)
	s.Drain()
	no = s.get(t, "/readyz")
	assert.Equal(t, 503, no.status)
	assert.Contains(t, no.body, "draining")
	assert.Equal(t, 200, s.get(t, "/healthz").status)
}

func TestPages(t *testing.T) {
	s := serve(t, Options{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("calls 7\n")) }),
		Views: map[string]func() any{
			"clusters": func() any { return map[string]int{"orders": 3} },
			"broken":   func() any { return func() {} },
		},
	})
	assert.Equal(t, "calls 7\n", s.get(t, "/metrics").body)
	clusters := s.get(t, "/clusters")
	assert.Equal(t, "application/json", clusters.header.Get("Content-Type"))
	assert.JSONEq(t, `{"orders":3}`, clusters.body)
	broken := s.get(t, "/broken")
	assert.Equal(t, 500, broken.status)
	assert.Contains(t, broken.body, "cannot be shown as JSON")
	assert.Equal(t, 404, s.get(t, "/nothing").status)

	index := s.get(t, "/")
	assert.Equal(t, "text/html; charset=utf-8", index.header.Get("Content-Type"))
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/clusters", "/debug/pprof/heap", "/debug/pprof/profile"} {
		assert.Contains(t, index.body, `<a href="`+path+`">`)
	}
	assert.Equal(t, index.body, s.get(t, "/debug/pprof/").body)
}

func TestWithoutMetrics(t *testing.T) {
	s := serve(t, Options{})
	assert.Equal(t, 404, s.get(t, "/metrics").status)
	assert.NotContains(t, s.get(t, "/").body, "metrics")
}

func TestReadingIsAll(t *testing.T) {
	s := serve(t, Options{})
	for _, verb := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "NONSENSE"} {
		got := s.do(t, s.request(t, verb, "/healthz"))
		assert.Equal(t, 405, got.status, verb)
		assert.Equal(t, "GET, HEAD", got.header.Get("Allow"), verb)
	}
	head := s.do(t, s.request(t, "HEAD", "/healthz"))
	assert.Equal(t, 200, head.status)
	assert.Empty(t, head.body)
}

func TestHTTP2WithoutTLS(t *testing.T) {
	s := serve(t, Options{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: safety}).Get("http://" + s.address + "/healthz")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, "HTTP/2.0", resp.Proto)
	assert.Equal(t, 200, resp.StatusCode)
}

func TestHosts(t *testing.T) {
	s := serve(t, Options{})
	for host, status := range map[string]int{
		s.address: 200, "127.0.0.1": 200, "127.8.9.1:80": 200, "[::1]:9901": 200, "[::1]": 200, "::1": 200,
		"localhost": 200, "LocalHost:1": 200, "localhost.:80": 200,
		"evil.example": 403, "localhost.evil.example:80": 403, "10.0.0.1": 403, "127.0.0.1.evil.example": 403, "evil": 403,
	} {
		r := s.request(t, "GET", "/healthz")
		r.Host = host
		got := s.do(t, r)
		assert.Equal(t, status, got.status, host)
		if status == 403 {
			assert.Contains(t, got.body, host)
			assert.Contains(t, got.body, s.address)
		}
	}
}

func TestHostsOfAddressesThatOthersReach(t *testing.T) {
	served := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, address := range []net.Addr{
		&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, &net.TCPAddr{Port: 1}, &net.UnixAddr{Name: "/run/admin"},
	} {
		assert.False(t, loopback(address), "%v", address)
		assert.NotNil(t, guard(address, served))
	}
	assert.True(t, loopback(&net.TCPAddr{IP: net.IPv6loopback}))
}

func TestAListenerThatFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	err = New(Options{}).Serve(t.Context(), ln)
	assert.ErrorContains(t, err, "admin server on "+ln.Addr().String())
}

func TestViewsThatWouldHideAPage(t *testing.T) {
	assert.Panics(t, func() { New(Options{Views: map[string]func() any{"readyz": nil}}) })
}

// TestAViewThatPanics ends its request and nothing else.
func TestAViewThatPanics(t *testing.T) {
	s := serve(t, Options{Views: map[string]func() any{"bad": func() any { panic("bad") }}})
	resp, err := s.client.Do(s.request(t, "GET", "/bad"))
	if err == nil {
		resp.Body.Close()
	}
	assert.Error(t, err)
	assert.Equal(t, 200, s.get(t, "/healthz").status)
}

func TestStopClosesConnectionsThatAreIdleOrHalfOpen(t *testing.T) {
	s := serve(t, Options{})
	conn, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.Copy(conn, strings.NewReader("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 10))
	require.NoError(t, err)
	_, err = conn.Write([]byte("GET /hea"))
	require.NoError(t, err)
	require.NoError(t, s.stop())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(safety)))
	_, err = io.Copy(io.Discard, conn)
	assert.False(t, errors.Is(err, context.DeadlineExceeded) || isTimeout(err), "%v", err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
