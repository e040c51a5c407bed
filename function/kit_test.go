package function

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should happen at once.
const patience = 10 * time.Second

// resolve is a BaseURLResolver.
type resolve func(name string) (url.URL, error)

func (r resolve) Resolve(name string) (url.URL, error) { return r(name) }

// to resolves every name to one URL.
func to(t testing.TB, base string) resolve {
	t.Helper()
	u, err := url.Parse(base)
	require.NoError(t, err)
	return func(string) (url.URL, error) { return *u, nil }
}

// pick is a Picker.
type pick func(ctx context.Context, name string) (Target, error)

func (p pick) Pick(r *http.Request, name string) (Target, error) { return p(r.Context(), name) }

func (p pick) Resolve(string) (url.URL, error) { panic("Resolve of a Picker") }

// serve runs a server with a handler for as long as the test.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // runs first
	return s
}

// proxy runs a Handler with options whose logger is of no interest.
func proxy(t testing.TB, opts Options) *httptest.Server {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	h := New(opts)
	t.Cleanup(h.CloseIdleConnections)
	return serve(t, h)
}

// through runs a function, and a Handler with default options in front of it.
func through(t testing.TB, function http.HandlerFunc) *httptest.Server {
	t.Helper()
	return proxy(t, Options{Resolver: to(t, serve(t, function).URL)})
}

// do makes a request and returns the response, whose body has been read.
func do(t testing.TB, s *httptest.Server, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := s.Client().Transport.RoundTrip(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(body)
}

func get(t testing.TB, s *httptest.Server, path string) (*http.Response, string) {
	t.Helper()
	return do(t, s, request(t, http.MethodGet, s.URL+path, nil))
}

// request returns a request that ends with the test.
func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	require.NoError(t, err)
	return r
}

// dial opens a connection to a server to write whatever one likes.
func dial(t testing.TB, s *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// raw sends a request byte for byte, lines ended by CRLF, and returns the response.
func raw(t testing.TB, s *httptest.Server, lines ...string) (*http.Response, string) {
	t.Helper()
	conn := dial(t, s)
	_, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(body)
}

// await returns what comes from a channel.
func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		require.FailNow(t, "waited in vain", what)
		panic("not reached")
	}
}
