package function

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// toAndTell picks one URL for every call, and tells how that went.
func toAndTell(t testing.TB, base string, went chan<- string) pick {
	u, err := to(t, base)("")
	require.NoError(t, err)
	return func(context.Context, string) (Target, error) {
		return Target{URL: u, Done: func(status int, err error) { went <- fmt.Sprint(status, " ", err) }}, nil
	}
}

func TestPickerChoosesForEachCall(t *testing.T) {
	one, two := serve(t, http.HandlerFunc(echoTarget)), serve(t, http.HandlerFunc(echoTarget))
	var next int
	var names []string
	h := New(Options{Resolver: pick(func(ctx context.Context, name string) (Target, error) {
		_, limited := ctx.Deadline()
		assert.True(t, limited, "Pick has no more time than the call")
		next++
		names = append(names, name)
		u, err := to(t, []string{one.URL, two.URL}[next%2])(name)
		return Target{URL: u}, err
	})})
	defer h.CloseIdleConnections()
	for i := range 4 {
		want := []*httptest.Server{two, one}[i%2].Listener.Addr().String() + " /x"
		require.Equal(t, want, answer(h, "GET", fmt.Sprintf("/function/f%d/x", i), nil).Body.String())
	}
	require.Equal(t, []string{"f0", "f1", "f2", "f3"}, names)
}

// picks is a Picker of one target, which counts how often Done was called and notes with
// what.
type picks struct {
	target Target
	status []int
	errs   []error
}

func (p *picks) Resolve(string) (url.URL, error) { panic("Resolve of a Picker") }

func (p *picks) Pick(*http.Request, string) (Target, error) {
	t := p.target
	t.Done = func(status int, err error) {
		p.status, p.errs = append(p.status, status), append(p.errs, err)
	}
	return t, nil
}

// brokenWriter is the connection of a client that has gone.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// panicking is a transport, or a handler, with a fault.
type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("fault") }

func (panicking) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusAccepted)
	panic("fault")
}

func TestDoneIsToldOnceHowItWent(t *testing.T) {
	refused := errors.New("connection refused")
	gone, goes := context.WithCancel(t.Context())
	goes()
	at := func(base string) Target { u, _ := url.Parse(base); return Target{URL: *u} }
	here := func(h http.HandlerFunc) Target { return Target{Handler: h} }
	for _, c := range []struct {
		claim     string
		target    Target
		transport http.RoundTripper
		ctx       context.Context
		body      io.Reader
		broken    bool // the client's connection
		status    int
		err       error
		panics    bool
	}{
		{claim: "well", target: at("http://f"), transport: &transport{}, status: 204},
		{claim: "not to a URL", target: at("f"), transport: &transport{}, err: errAny},
		{claim: "not without an answer", target: at("http://f"), transport: failing{refused}, err: refused},
		{claim: "not within the time", target: at("http://f"), transport: silent{}, err: context.DeadlineExceeded},
		{claim: "not for the client", target: at("http://f"), transport: silent{}, ctx: gone, err: ErrClient},
		{claim: "not with half a request", target: at("http://f"), transport: failing{}, body: brokenBody{io.ErrUnexpectedEOF}, err: ErrClient},
		{claim: "not with half a response", target: at("http://f"), transport: halfResponse{}, status: 200, err: io.ErrUnexpectedEOF, panics: true},
		{claim: "not to a client that is gone", target: at("http://f"), transport: halfResponse{}, broken: true, status: 200, err: ErrClient, panics: true},
		{claim: "not with a fault", target: at("http://f"), transport: panicking{}, err: errPanicked, panics: true},
		{claim: "well, here", target: here(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) }), status: 418},
		{claim: "well, with a body", target: here(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a") }), status: 200},
		{claim: "well, without anything", target: here(func(http.ResponseWriter, *http.Request) {}), status: 200},
		{claim: "well, after a hint", target: here(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusAccepted)
		}), status: 202},
		{claim: "not here within the time", target: here(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), status: 200, err: context.DeadlineExceeded},
		{claim: "not here with a fault", target: Target{Handler: panicking{}}, status: 202, err: errPanicked, panics: true},
		{claim: "not below a path that is none", target: Target{Handler: panicking{}, URL: url.URL{Path: "a"}}, err: errAny},
	} {
		t.Run(c.claim, func(t *testing.T) {
			p := &picks{target: c.target}
			h := New(Options{Resolver: p, Transport: c.transport, Timeout: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
			r := httptest.NewRequest("POST", "/function/f", c.body)
			if c.ctx != nil {
				r = r.WithContext(c.ctx)
			}
			var w http.ResponseWriter = httptest.NewRecorder()
			if c.broken {
				w = brokenWriter{httptest.NewRecorder()}
			}
			call := func() { h.ServeHTTP(w, r) }
			if c.panics {
				require.Panics(t, call)
			} else {
				require.NotPanics(t, call)
			}
			require.Equal(t, []int{c.status}, p.status)
			require.Len(t, p.errs, 1)
			if c.err == errAny {
				require.Error(t, p.errs[0])
			} else {
				require.ErrorIs(t, p.errs[0], c.err)
			}
			if c.err != ErrClient {
				require.NotErrorIs(t, p.errs[0], ErrClient)
			}
		})
	}
}

// TestDoneOfAStreamThatCannotBeWritten: nobody has told that the client is gone.
func TestDoneOfAStreamThatCannotBeWritten(t *testing.T) {
	p := &picks{target: Target{URL: url.URL{Scheme: "http", Host: "f"}}}
	h := New(Options{Resolver: p, Transport: halfResponse{}})
	underServer := context.WithValue(t.Context(), http.ServerContextKey, &http.Server{})
	r := httptest.NewRequestWithContext(underServer, "GET", "/function/f", nil)
	r.Header.Set("Accept", "text/event-stream")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { h.ServeHTTP(brokenWriter{httptest.NewRecorder()}, r) })
	require.Equal(t, []int{200}, p.status)
	require.ErrorIs(t, p.errs[0], ErrClient)
}

// errAny is for errors that nobody needs to tell from others.
var errAny = errors.New("any")

// halfResponse is a transport whose responses break off.
type halfResponse struct{}

func (halfResponse) RoundTrip(*http.Request) (*http.Response, error) {
	body := io.MultiReader(strings.NewReader("half"), brokenBody{io.ErrUnexpectedEOF})
	return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(body)}, nil
}

// TestDoneOfAnAbandonedStream: the client leaves in the middle, which is not the
// function's doing.
func TestDoneOfAnAbandonedStream(t *testing.T) {
	for _, accept := range []string{"*/*", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			went := make(chan string, 1)
			p := proxy(t, Options{Resolver: toAndTell(t, function.URL, went)})
			r := request(t, "GET", p.URL+"/function/f", nil)
			r.Header.Set("Accept", accept)
			response, err := p.Client().Do(r)
			require.NoError(t, err)
			_, err = io.ReadFull(response.Body, make([]byte, 4))
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, "200 the client ended the call: it is gone", await(t, went, "the end of the call"))
		})
	}
}

func TestHandlerInTheProcess(t *testing.T) {
	var got *http.Request
	p := proxy(t, Options{Resolver: pick(func(_ context.Context, name string) (Target, error) {
		return Target{URL: url.URL{Path: "/" + name}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r
			_, _ = io.Copy(w, r.Body)
		})}, nil
	})})
	for _, c := range []struct{ path, uri string }{
		{"", "/pkg.Service"},
		{"/", "/pkg.Service/"},
		{"/Method?a=b&c", "/pkg.Service/Method?a=b&c"},
		{"/a%2Fb", "/pkg.Service/a%2Fb"},
	} {
		r := request(t, "POST", p.URL+"/function/pkg.Service"+c.path, strings.NewReader("{}"))
		r.Header.Set("X-Forwarded-For", "evil")
		_, body := do(t, p, r)
		require.Equal(t, "{}", body)
		require.Equal(t, c.uri, got.RequestURI)
		require.Equal(t, c.uri, got.URL.String())
		require.Equal(t, "127.0.0.1", got.Header.Get("X-Forwarded-For"))
		_, limited := got.Context().Deadline()
		require.True(t, limited)
	}
}

// TestHandlerInTheProcessHasTheWholeResponse: it can flush, and take over the connection.
func TestHandlerInTheProcessHasTheWholeResponse(t *testing.T) {
	went := make(chan string, 1)
	seen := make(chan struct{})
	p := proxy(t, Options{Resolver: pick(func(context.Context, string) (Target, error) {
		return Target{
			Done: func(status int, err error) { went <- fmt.Sprint(status, " ", err) },
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if isWebSocket(r.Header) {
					conn, err := websocket.Accept(w, r, nil)
					if assert.NoError(t, err) {
						_ = conn.Close(websocket.StatusNormalClosure, "bye")
					}
					return
				}
				_, limited := r.Context().Deadline()
				assert.False(t, limited)
				assert.NoError(t, http.NewResponseController(w).SetWriteDeadline(time.Time{}), "it is unwrapped")
				_, _ = io.WriteString(w, "data: 1\n")
				w.(http.Flusher).Flush()
				await(t, seen, "the client to see the event")
			}),
		}, nil
	})})
	r := request(t, "GET", p.URL+"/function/f", nil)
	r.Header.Set("Accept", "text/event-stream")
	response, err := p.Client().Do(r)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "data: 1\n", line)
	close(seen)
	require.Equal(t, "200 <nil>", await(t, went, "the end of the call"))

	conn, _, err := websocket.Dial(r.Context(), p.URL+"/function/f", nil)
	require.NoError(t, err)
	_, _, err = conn.Read(r.Context())
	require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err))
	require.Equal(t, "101 <nil>", await(t, went, "the end of the WebSocket"))
}
