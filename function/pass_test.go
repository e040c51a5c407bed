package function

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
)

func TestHandlerNeedsAResolver(t *testing.T) {
	require.PanicsWithValue(t, "function: New needs Options with a Resolver, which is nil", func() { New(Options{}) })
}

// hops are headers that end at the next hop (RFC 9110 section 7.6.1).
var hops = []string{
	"Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eA==", "Proxy-Authenticate: Basic",
	"TE: gzip", "Upgrade: h2c", "X-Named: 1", "X-Named-Too: 1",
}

func TestHeadersOfOneHopGoNoFurther(t *testing.T) {
	var got http.Header
	p := through(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		for _, line := range hops {
			key, value, _ := strings.Cut(line, ": ")
			w.Header().Set(key, value)
		}
		w.Header().Set("Connection", "X-Named, x-named-too")
		w.Header()["X-End"] = []string{"a", "b"}
		w.Header()["Set-Cookie"] = []string{"c=1", "d=2"}
	})
	for _, accept := range []string{"*/*", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			lines := append([]string{
				"GET /function/f HTTP/1.1", "Host: a", "Connection: close, X-Named", "Connection: x-named-too,,Upgrade",
				"X-End: a", "X-End: b", "Accept: " + accept,
			}, hops...)
			response, _ := raw(t, p, lines...)
			for _, header := range []http.Header{got, response.Header} {
				require.Equal(t, []string{"a", "b"}, header["X-End"])
				for _, line := range hops {
					key, _, _ := strings.Cut(line, ":")
					require.Empty(t, header.Values(key), key)
				}
			}
			require.Equal(t, []string{"c=1", "d=2"}, response.Header["Set-Cookie"])
			require.Empty(t, got["Connection"])
			require.NotContains(t, got, "User-Agent", "the client has none")
			require.NotContains(t, got, "Accept-Encoding", "the client has none")
		})
	}
}

func TestForwardedHeadersCannotBeForged(t *testing.T) {
	var got http.Header
	var host string
	function := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, host = r.Header, r.Host }))
	p := proxy(t, Options{Resolver: to(t, function.URL)})
	for _, accept := range []string{"*/*", "text/event-stream"} {
		raw(t, p, "GET /function/f HTTP/1.1", "Host: gateway.example", "Connection: close", "Accept: "+accept,
			"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /evil",
			"X_Forwarded_For: 1.2.3.4", "x-real-ip: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Forward: kept")
		require.Equal(t, http.Header{
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"gateway.example"}, "X-Forwarded-Proto": {"http"},
			"Accept": {accept}, "X-Forward": {"kept"},
		}, got)
		require.Equal(t, function.Listener.Addr().String(), host)
	}
	raw(t, p, "GET /function/f HTTP/1.0")
	require.NotContains(t, got, "X-Forwarded-Host", "the client has named none")
}

func TestForwardedHeadersOfTrustedProxies(t *testing.T) {
	networks := trusts{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	for _, c := range []struct {
		claim, peer string
		came, want  http.Header
	}{
		{"a proxy's are kept, and it is added", "192.0.2.1:80", http.Header{
			"X-Forwarded-For": {"1.1.1.1, 2.2.2.2", "3.3.3.3"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"x"},
		}, http.Header{
			"X-Forwarded-For": {"1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"x"},
		}},
		{"what it does not say is added", "[2001:db8::1]:80", http.Header{}, http.Header{
			"X-Forwarded-For": {"2001:db8::1"}, "X-Forwarded-Host": {"gateway"}, "X-Forwarded-Proto": {"http"},
		}},
		{"an IPv4 address may look like IPv6", "[::ffff:192.0.2.1]:80", http.Header{"X-Forwarded-For": {"1.1.1.1"}}, http.Header{
			"X-Forwarded-For": {"1.1.1.1, 192.0.2.1"}, "X-Forwarded-Host": {"gateway"}, "X-Forwarded-Proto": {"http"},
		}},
		{"nobody else is believed", "192.0.3.1:80", http.Header{"X-Forwarded-For": {"1.1.1.1"}}, http.Header{
			"X-Forwarded-For": {"192.0.3.1"}, "X-Forwarded-Host": {"gateway"}, "X-Forwarded-Proto": {"http"},
		}},
		{"nor who has no address", "@", http.Header{"X-Forwarded-For": {"1.1.1.1"}}, http.Header{
			"X-Forwarded-Host": {"gateway"}, "X-Forwarded-Proto": {"http"},
		}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			out := c.came.Clone()
			networks.forward(out, &http.Request{Host: "gateway", RemoteAddr: c.peer, Header: c.came})
			require.Equal(t, c.want, out)
		})
	}
}

func TestForwardedProtoIsThatOfTheConnection(t *testing.T) {
	out := http.Header{}
	trusts(nil).forward(out, &http.Request{RemoteAddr: "192.0.2.1:1", TLS: &tls.ConnectionState{}})
	require.Equal(t, "https", out.Get("X-Forwarded-Proto"))
}

// TestTrailersAreWantedIfTheClientWantsThem is for functions that send none otherwise.
func TestTrailersAreWantedIfTheClientWantsThem(t *testing.T) {
	asked := &transport{}
	h := New(Options{Resolver: to(t, "http://f"), Transport: asked})
	r := httptest.NewRequest("GET", "/function/f", nil)
	r.Header.Set("Te", "gzip, trailers;q=1, trailers")
	h.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, []string{"trailers"}, asked.last.Header["Te"])
}

func TestRequestIsNotChanged(t *testing.T) {
	p := New(Options{Resolver: to(t, "http://f"), Transport: &transport{}})
	r := httptest.NewRequest("POST", "/function/f/x?y", strings.NewReader("z"))
	r.Header = http.Header{"Connection": {"X-A"}, "X-A": {"1"}, "X-Forwarded-For": {"1"}}
	before := r.Clone(t.Context())
	p.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, before.Header, r.Header)
	require.Equal(t, before.URL, r.URL)
}

func TestRedirectsAreTheClients(t *testing.T) {
	p := through(t, http.RedirectHandler("http://elsewhere.example/", http.StatusTemporaryRedirect).ServeHTTP)
	response, _ := get(t, p, "/function/f")
	require.Equal(t, http.StatusTemporaryRedirect, response.StatusCode)
	require.Equal(t, "http://elsewhere.example/", response.Header.Get("Location"))
}

func TestCompressedBodiesStayCompressed(t *testing.T) {
	p := through(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "not really")
	})
	response, body := raw(t, p, "GET /function/f HTTP/1.1", "Host: a", "Connection: close")
	require.Equal(t, "gzip", response.Header.Get("Content-Encoding"))
	require.Equal(t, "not really", body)
}

func TestHeadHasALengthAndNoBody(t *testing.T) {
	p := through(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "7") })
	response, body := do(t, p, request(t, "HEAD", p.URL+"/function/f", nil))
	require.EqualValues(t, 7, response.ContentLength)
	require.Empty(t, body)
}

func TestBodiesAreSentAsLongAsTheyAre(t *testing.T) {
	type framing struct {
		length   int64
		encoding string
		header   []string
	}
	var got framing
	p := through(t, func(w http.ResponseWriter, r *http.Request) {
		got = framing{r.ContentLength, strings.Join(r.TransferEncoding, ","), r.Header["Transfer-Encoding"]}
		_, _ = io.Copy(w, r.Body)
	})
	for _, c := range []struct {
		claim, header, body, echo string
		want                      framing
	}{
		{"with a length", "Content-Length: 3", "abc", "abc", framing{3, "", nil}},
		{"in chunks", "Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", "abc", framing{-1, "chunked", nil}},
		{"empty", "Content-Length: 0", "", "", framing{0, "", nil}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			conn := dial(t, p)
			_, err := io.WriteString(conn, "POST /function/f HTTP/1.1\r\nHost: a\r\n"+c.header+"\r\n\r\n"+c.body)
			require.NoError(t, err)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, c.echo, string(body))
			require.Equal(t, c.want, got)
		})
	}
}

// TestSmuggledRequestsDoNotArrive: a body whose end is a matter of opinion. net/http
// refuses such requests or goes by the chunks alone, and so must what the function reads.
func TestSmuggledRequestsDoNotArrive(t *testing.T) {
	var calls, smuggled atomic.Int32
	p := through(t, func(_ http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.URL.Path == "/smuggled" || r.ContentLength >= 0 {
			smuggled.Add(1)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})
	const hidden = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, headers := range []string{
		"Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4",
		"Transfer-Encoding: xchunked\r\nContent-Length: 4", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"Content-Length: 4\r\nContent-Length: 5", "Transfer-Encoding : chunked", "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
		"Transfer-Encoding: chunked\r\nConnection: Content-Length",
	} {
		conn := dial(t, p)
		_, err := io.WriteString(conn, "POST /function/f HTTP/1.1\r\nHost: a\r\n"+headers+"\r\n\r\n0\r\n\r\n"+hidden)
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		_, err = io.ReadAll(conn)
		require.NoError(t, err)
	}
	require.Zero(t, smuggled.Load())
	require.NotZero(t, calls.Load(), "some were good requests")
}

func TestTrailersCross(t *testing.T) {
	var got http.Header
	p := through(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got = r.Trailer
		w.Header().Set("Trailer", "X-Said")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Said", "1")
		w.Header().Set(http.TrailerPrefix+"X-Unsaid", "2")
		w.Header().Set(http.TrailerPrefix+"Content-Type", "3")
		w.Header().Set(http.TrailerPrefix+"X-Forwarded-For", "4")
	})
	for _, accept := range []string{"*/*", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			conn := dial(t, p)
			_, err := io.WriteString(conn, "POST /function/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nAccept: "+accept+
				"\r\nTrailer: X-Sum, X-Forwarded-For\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-Forwarded-For: evil\r\nX-More: 8\r\n\r\n")
			require.NoError(t, err)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, "body", string(body))
			require.Equal(t, "1", response.Trailer.Get("X-Said"))
			require.Equal(t, "2", response.Trailer.Get("X-Unsaid"))
			require.Equal(t, http.Header{"X-Sum": {"7"}}, got)
			if accept == "*/*" { // streams are httputil.ReverseProxy's
				require.Len(t, response.Trailer, 2)
			}
		})
	}
}

// TestBothDirectionsAtOnce: a function that answers each piece before it reads the next.
func TestBothDirectionsAtOnce(t *testing.T) {
	p := through(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, http.NewResponseController(w).EnableFullDuplex())
		piece := make([]byte, 8)
		for {
			n, err := r.Body.Read(piece)
			_, _ = w.Write(piece[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				return
			}
		}
	})
	for _, accept := range []string{"*/*", "application/x-ndjson"} {
		t.Run(accept, func(t *testing.T) {
			body, client := io.Pipe()
			r := request(t, "POST", p.URL+"/function/f", body)
			r.Header.Set("Accept", accept)
			go func() { _, _ = client.Write([]byte("first")) }() // ends with the test's body
			response, err := p.Client().Do(r)
			require.NoError(t, err)
			defer func() { _ = response.Body.Close() }()
			for _, piece := range []string{"first", "second", "third"} {
				if piece != "first" {
					_, err = client.Write([]byte(piece))
					require.NoError(t, err)
				}
				got := make([]byte, len(piece))
				_, err = io.ReadFull(response.Body, got)
				require.NoError(t, err)
				require.Equal(t, piece, string(got))
			}
			require.NoError(t, client.Close())
			rest, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Empty(t, rest)
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var opened atomic.Int32
	function := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100<<10))
	}))
	function.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	function.Start()
	defer function.Close()
	p := proxy(t, Options{Resolver: to(t, function.URL)})
	for range 5 {
		_, body := get(t, p, "/function/f")
		require.Len(t, body, 100<<10)
	}
	require.EqualValues(t, 1, opened.Load())
}

func TestClientThatGoesAwayEndsTheCall(t *testing.T) {
	for _, accept := range []string{"*/*", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			began, ended := make(chan struct{}), make(chan struct{})
			p := through(t, func(_ http.ResponseWriter, r *http.Request) {
				close(began)
				<-r.Context().Done()
				close(ended)
			})
			conn := dial(t, p)
			_, err := io.WriteString(conn, "GET /function/f HTTP/1.1\r\nHost: a\r\nAccept: "+accept+"\r\n\r\n")
			require.NoError(t, err)
			await(t, began, "the function's call")
			require.NoError(t, conn.Close())
			await(t, ended, "the end of the function's call")
		})
	}
}

// TestClientThatStopsSendingIsNotWaitedFor: the function has answered and wants no more
// of the request, of which there is more to come.
func TestClientThatStopsSendingIsNotWaitedFor(t *testing.T) {
	for _, accept := range []string{"*/*", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			t.Parallel()
			p := through(t, func(w http.ResponseWriter, _ *http.Request) {
				assert.NoError(t, http.NewResponseController(w).EnableFullDuplex()) // or net/http waits, too
				w.WriteHeader(http.StatusForbidden)
			})
			conn := dial(t, p)
			_, err := io.WriteString(conn, "POST /function/f HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nAccept: "+accept+"\r\n\r\nabc")
			require.NoError(t, err)
			all, err := io.ReadAll(conn) // and then the connection ends
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(all), "HTTP/1.1 403 "), string(all))
			require.Contains(t, string(all), "Connection: close\r\n")
		})
	}
}

// TestRestOfARequestIsNoOtherRequest: the function answers at once, or not in time, and
// only then the client sends what is left of its request.
func TestRestOfARequestIsNoOtherRequest(t *testing.T) {
	const rest = "GET /function/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, accept := range []string{"*/*", "text/event-stream"} {
		for _, c := range []struct {
			claim     string
			transport http.RoundTripper
		}{{"answered", &transport{}}, {"failed", failing{err: io.ErrUnexpectedEOF}}} {
			t.Run(c.claim+" "+accept, func(t *testing.T) {
				names := make(chan string, 2)
				h := New(Options{Transport: unread{c.transport}, Logger: slog.New(slog.DiscardHandler), Resolver: resolve(func(name string) (url.URL, error) {
					names <- name
					return url.URL{Scheme: "http", Host: "f"}, nil
				})})
				conn := dial(t, serve(t, h))
				_, err := fmt.Fprintf(conn, "POST /function/f HTTP/1.1\r\nHost: a\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n", accept, len(rest))
				require.NoError(t, err)
				response, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				require.True(t, response.Close)
				_, _ = io.WriteString(conn, rest)
				_, _ = io.Copy(io.Discard, conn)
				require.Equal(t, "f", <-names)
				require.Empty(t, names)
			})
		}
	}
}

// unread is a transport that does not look at what it is sent.
type unread struct{ http.RoundTripper }

func (u unread) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Body = nil
	return u.RoundTripper.RoundTrip(r)
}

func TestClientsConnectionIsKeptAfterABody(t *testing.T) {
	p := through(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	conn := dial(t, p)
	reader := bufio.NewReader(conn)
	for range 3 {
		_, err := io.WriteString(conn, "POST /function/f HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		require.NoError(t, err)
		response, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		require.False(t, response.Close)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
	}
}

func TestExpectedContinueComesFromTheFunction(t *testing.T) {
	p := through(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		_, _ = io.Copy(w, r.Body)
	})
	for path, first := range map[string]string{"/no": "HTTP/1.1 417", "/yes": "HTTP/1.1 100"} {
		conn := dial(t, p)
		_, err := io.WriteString(conn, "POST /function/f"+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(line, first), line)
	}
}

// TestBrokenOffResponseIsNotTakenForWhole: neither if the function breaks it off nor if
// its time is over.
func TestBrokenOffResponseIsNotTakenForWhole(t *testing.T) {
	for _, c := range []struct {
		claim  string
		breaks func(r *http.Request)
	}{
		{"by the function", func(*http.Request) { panic(http.ErrAbortHandler) }},
		{"by the timeout", func(r *http.Request) { <-r.Context().Done() }},
	} {
		t.Run(c.claim, func(t *testing.T) {
			function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				c.breaks(r)
			}))
			p := proxy(t, Options{Resolver: to(t, function.URL), Timeout: 50 * time.Millisecond})
			response, err := p.Client().Do(request(t, "GET", p.URL+"/function/f", nil))
			require.NoError(t, err)
			defer func() { _ = response.Body.Close() }()
			body, err := io.ReadAll(response.Body)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.Equal(t, "half", string(body))
		})
	}
}

// silent is a transport that never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		claim   string
		options Options
		after   time.Duration
		status  int
	}{
		{"ten seconds by default", Options{}, 10 * time.Second, 500},
		{"another time", Options{Timeout: time.Minute}, time.Minute, 500},
		{"told from other errors", Options{GatewayErrors: true}, 10 * time.Second, 504},
	} {
		t.Run(c.claim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logs bytes.Buffer
				c.options.Resolver, c.options.Transport = to(t, "http://f"), silent{}
				c.options.Logger = slog.New(slog.NewTextHandler(&logs, nil))
				begun := time.Now()
				w := answer(New(c.options), "GET", "/function/f/x", nil)
				require.Equal(t, c.after, time.Since(begun))
				require.Equal(t, c.status, w.Code)
				require.Equal(t, "Can't reach service for: f.\n", w.Body.String())
				require.Contains(t, logs.String(), "url=http://f:8080/x error=\"no whole response within "+c.after.String())
			})
		})
	}
}

func TestNoTimeout(t *testing.T) {
	for claim, c := range map[string]struct {
		options Options
		accept  string
	}{
		"of a stream":       {Options{}, "text/event-stream"},
		"if none is wanted": {Options{Timeout: -1}, "*/*"},
	} {
		t.Run(claim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.options.Resolver, c.options.Transport = to(t, "http://f"), silent{}
				c.options.Logger = slog.New(slog.DiscardHandler)
				ctx, cancel := context.WithCancel(t.Context())
				r := httptest.NewRequestWithContext(ctx, "GET", "/function/f", nil)
				r.Header.Set("Accept", c.accept)
				time.AfterFunc(24*time.Hour, cancel)
				begun := time.Now()
				New(c.options).ServeHTTP(httptest.NewRecorder(), r)
				require.Equal(t, 24*time.Hour, time.Since(begun))
			})
		})
	}
}

// failing is a transport that has an error for an answer, having read the request.
type failing struct{ err error }

func (f failing) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
	}
	return nil, f.err
}

type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }

func TestGatewayErrors(t *testing.T) {
	dialTimeout := &net.OpError{Op: "dial", Err: timeoutError{}}
	for _, c := range []struct {
		claim  string
		err    error
		body   io.Reader
		status int
	}{
		{"refused", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, nil, 502},
		{"broken off", io.ErrUnexpectedEOF, nil, 502},
		{"a connection that takes too long", dialTimeout, nil, 504},
		{"a request that breaks off", nil, brokenBody{io.ErrUnexpectedEOF}, 400},
		{"a request that is too long", nil, brokenBody{&http.MaxBytesError{Limit: 5}}, 413},
	} {
		t.Run(c.claim, func(t *testing.T) {
			options := Options{Resolver: to(t, "http://f"), Transport: failing{c.err}, Logger: slog.New(slog.DiscardHandler)}
			w := answer(New(options), "POST", "/function/f", c.body)
			require.Equal(t, http.StatusInternalServerError, w.Code)
			options.GatewayErrors = true
			w = answer(New(options), "POST", "/function/f", c.body)
			require.Equal(t, c.status, w.Code)
			require.Equal(t, "Can't reach service for: f.\n", w.Body.String())
			require.Equal(t, "proxy", w.Header().Get("X-OpenFaaS-Internal"))
		})
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// TestRefusedConnection is for a socket's own errors.
func TestRefusedConnection(t *testing.T) {
	gone := "http://" + loopback.Free(t)
	for gatewayErrors, status := range map[bool]int{false: 500, true: 502} {
		for _, accept := range []string{"*/*", "text/event-stream"} {
			p := proxy(t, Options{Resolver: to(t, gone), GatewayErrors: gatewayErrors})
			r := request(t, "GET", p.URL+"/function/f", nil)
			r.Header.Set("Accept", accept)
			response, body := do(t, p, r)
			require.Equal(t, status, response.StatusCode)
			require.Equal(t, "Can't reach service for: f.\n", body)
		}
	}
}

// TestResolversStatus: what an error of a resolver says about HTTP counts.
func TestResolversStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{errors.New("nowhere"), 503, "No endpoints available for: f.\n"},
		{notFound{}, 404, "Not Found: f.\n"},
		{errors.Join(errors.New("x"), notFound{}), 404, "Not Found: f.\n"},
		{status(429), 429, "Too Many Requests: f.\n"},
		{status(503), 503, "No endpoints available for: f.\n"},
		{status(200), 503, "No endpoints available for: f.\n"},
	} {
		h := New(Options{
			Logger: slog.New(slog.DiscardHandler), Resolver: resolve(func(string) (url.URL, error) { return url.URL{}, c.err }),
		})
		w := answer(h, "GET", "/function/f", nil)
		require.Equal(t, c.status, w.Code)
		require.Equal(t, c.text, w.Body.String())
	}
}

// status is an error with that HTTP status.
type status int

func (s status) Error() string   { return "status" }
func (s status) HTTPStatus() int { return int(s) }

func TestTimeIsLoggedAtLevelDebug(t *testing.T) {
	var logs bytes.Buffer
	level := new(slog.LevelVar)
	h := New(Options{
		Resolver: to(t, "http://f"), Transport: &transport{},
		Logger: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: level})),
	})
	answer(h, "GET", "/function/f", nil)
	require.Empty(t, logs.String())
	level.Set(slog.LevelDebug)
	answer(h, "GET", "/function/f", nil)
	require.Regexp(t, `level=DEBUG msg="function called" function=f status=204 took=\S+s\n$`, logs.String())
}
