package function

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// echoTarget answers with what was asked for, and of which host.
func echoTarget(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, r.Host+" "+r.RequestURI)
}

// TestPathsOnTheWire: what a client writes byte for byte, and what the function reads.
func TestPathsOnTheWire(t *testing.T) {
	function := serve(t, http.HandlerFunc(echoTarget))
	p := proxy(t, Options{Resolver: to(t, function.URL+"/base/")})
	for _, c := range []struct{ claim, target, arrives string }{
		{"nothing below", "/function/f", "/base/"},
		{"a slash below", "/function/f/", "/base/"},
		{"what net/url would escape", "/function/f/!()", "/base/!()"},
		{"a path and a query", "/function/f/a/b?c=d/../e&f=%2e", "/base/a/b?c=d/../e&f=%2e"},
		{"slashes stay encoded", "/function/f/a%2Fb%2fc", "/base/a%2Fb%2fc"},
		{"and so does all else", "/function/f/%41%3F%23%25%20%c3%bc+;x=y@:!$&'()*,", "/base/%41%3F%23%25%20%c3%bc+;x=y@:!$&'()*,"},
		{"characters that need to be are", "/function/f/ü|\"", "/base/%C3%BC%7C%22"},
		{"but those that are encoded stay", "/function/f/ü%2Fa|%7c", "/base/%C3%BC%2Fa%7C%7c"},
		{"what is encoded twice is decoded never", "/function/f/%252e%252e%252fx", "/base/%252e%252e%252fx"},
		{"dots that are no segment", "/function/f/.../..a/a../.a", "/base/.../..a/a../.a"},
		{"empty segments further below", "/function/f/http://a//", "/base/http://a//"},
		{"an absolute URL counts for its path", "http://u:p@evil.example:1/function/f/x?y", "/base/x?y"},
		{"whatever its scheme", "file:///function/f/x", "/base/x"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			response, body := raw(t, p, "GET "+c.target+" HTTP/1.1", "Host: gateway.example", "Connection: close")
			require.Equal(t, http.StatusOK, response.StatusCode, body)
			require.Equal(t, function.Listener.Addr().String()+" "+c.arrives, body)
		})
	}
}

func TestPathsThatAreRefused(t *testing.T) {
	p := proxy(t, Options{Resolver: resolve(func(name string) (url.URL, error) {
		t.Errorf("asked for %q", name)
		return url.URL{}, nil
	})})
	for _, c := range []struct {
		claim, target string
		status        int
	}{
		{"no name", "/function", 400},
		{"an empty name", "/function//x", 400},
		{"a name of one dot", "/function/./x", 400},
		{"a name of two dots", "/function/../x", 400},
		{"a name of two encoded dots", "/function/%2e%2e/x", 400},
		{"an encoded name", "/function/%66", 400},
		{"an encoded slash in a name", "/function/a%2fb", 400},
		{"user information in a name", "/function/a@b", 400},
		{"a port in a name", "/function/a:80", 400},
		{"another prefix", "/functions/a", 400},
		{"nothing but a host", "http://evil.example", 400},
		{"a URL without a path", "mailto:function/f", 400},
		{"a host behind the name", "/function/f//evil.example/x", 400},
		{"an encoded host behind the name", "/function/f/%2Fevil.example/x", 400},
		{"up", "/function/f/..", 400},
		{"up in the middle", "/function/f/a/../b", 400},
		{"up, encoded", "/function/f/%2e%2E/b", 400},
		{"up, half encoded", "/function/f/.%2e/b", 400},
		{"up between encoded slashes", "/function/f/a%2f..%2fb", 400},
		{"up with a parameter", "/function/f/..;a=b/c", 400},
		{"up with an encoded parameter", "/function/f/%2e%2e%3bx/c", 400},
		{"a dot", "/function/f/./b", 400},
		{"a backslash", `/function/f/..\b`, 400},
		{"an encoded backslash", "/function/f/a%5cb", 400},
		{"an encoded line end", "/function/f/a%0d%0aHost:b", 400},
		{"an encoded NUL", "/function/f/a%00", 400},
		{"an encoded DEL", "/function/f/a%7F", 400},
		{"a control character", "/function/f/a\x01", 400},
		{"a control character in the query", "/function/f?a\x7f", 400},
		{"a fragment in the query", "/function/f?a#b", 400},
		{"half an encoded character", "/function/f/%2", 400},
		{"a space", "/function/f/a b", 400},
		{"a name too long", "/function/" + strings.Repeat("a", 254), 414},
		{"a header too long", "/function/f/" + strings.Repeat("a", 2<<20), 431},
	} {
		t.Run(c.claim, func(t *testing.T) {
			response, body := raw(t, p, "GET "+c.target+" HTTP/1.1", "Host: a", "Connection: close")
			require.Equal(t, c.status, response.StatusCode)
			require.NotEmpty(t, body)
		})
	}
}

// TestSpaceInTheQueryIsRefused: HTTP/2 has no line that a space could end, so that
// net/http's server lets it through, and its client would write it into one.
func TestSpaceInTheQueryIsRefused(t *testing.T) {
	r := httptest.NewRequest("GET", "/function/f", nil)
	r.URL.RawQuery = "a HTTP/1.0"
	w := httptest.NewRecorder()
	New(Options{Resolver: to(t, "http://a")}).ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "percent-encode it")
}

func TestLongestName(t *testing.T) {
	name := strings.Repeat("a", 253)
	p := through(t, func(http.ResponseWriter, *http.Request) {})
	response, _ := get(t, p, "/function/"+name)
	require.Equal(t, http.StatusOK, response.StatusCode)
}

func TestPrefixes(t *testing.T) {
	function := serve(t, http.HandlerFunc(echoTarget))
	for _, c := range []struct{ prefix, target string }{
		{"", "/function/f/x"}, {"/fn/", "/fn/f/x"}, {"fn", "/fn/f/x"}, {"/a/b", "/a/b/f/x"}, {"/", "/f/x"},
	} {
		h := New(Options{Resolver: to(t, function.URL), Prefix: c.prefix})
		w := answer(h, "GET", c.target, nil)
		require.Equal(t, http.StatusOK, w.Code, c.target)
		require.True(t, strings.HasSuffix(w.Body.String(), " /x"), w.Body)
		h.CloseIdleConnections()
	}
}

func TestURLsOfResolvers(t *testing.T) {
	for _, c := range []struct {
		claim string
		base  url.URL
		asked string // "" if it is refused
	}{
		{"the port that functions listen at", url.URL{Scheme: "http", Host: "f"}, "http://f:8080/x?q"},
		{"the same for https", url.URL{Scheme: "https", Host: "f"}, "https://f:8080/x?q"},
		{"and for an empty port", url.URL{Scheme: "http", Host: "f:"}, "http://f:8080/x?q"},
		{"and for IPv6", url.URL{Scheme: "http", Host: "[::1]"}, "http://[::1]:8080/x?q"},
		{"another port", url.URL{Scheme: "http", Host: "[::1]:81"}, "http://[::1]:81/x?q"},
		{"a path", url.URL{Scheme: "http", Host: "f:1", Path: "/a/b"}, "http://f:1/a/b/x?q"},
		{"a path with a slash", url.URL{Scheme: "http", Host: "f:1", Path: "/a/"}, "http://f:1/a/x?q"},
		{"an encoded path", url.URL{Scheme: "http", Host: "f:1", Path: "/a/b", RawPath: "/a%2Fb"}, "http://f:1/a%2Fb/x?q"},
		{"no scheme", url.URL{Host: "f"}, ""},
		{"another scheme", url.URL{Scheme: "file", Host: "f"}, ""},
		{"no host", url.URL{Scheme: "http"}, ""},
		{"a port alone", url.URL{Scheme: "http", Host: ":80"}, ""},
		{"a port that is none", url.URL{Scheme: "http", Host: "f:http"}, ""},
		{"IPv6 without brackets", url.URL{Scheme: "http", Host: "::1"}, ""},
		{"a path in the host", url.URL{Scheme: "http", Host: "f/x"}, ""},
		{"a user in the host", url.URL{Scheme: "http", Host: "f@g"}, ""},
		{"an encoded host", url.URL{Scheme: "http", Host: "f%2fg"}, ""},
		{"something behind brackets", url.URL{Scheme: "http", Host: "[::1]f"}, ""},
		{"a user", url.URL{Scheme: "http", Host: "f", User: url.User("u")}, ""},
		{"a query", url.URL{Scheme: "http", Host: "f", RawQuery: "a"}, ""},
		{"a fragment", url.URL{Scheme: "http", Host: "f", Fragment: "a"}, ""},
		{"no URL at all", url.URL{Scheme: "http", Opaque: "f"}, ""},
		{"a path without a slash", url.URL{Scheme: "http", Host: "f", Path: "a"}, ""},
	} {
		t.Run(c.claim, func(t *testing.T) {
			asked := &transport{}
			h := New(Options{
				Transport: asked, Resolver: resolve(func(string) (url.URL, error) { return c.base, nil }),
				Logger: slog.New(slog.DiscardHandler),
			})
			w := answer(h, "GET", "/function/f/x?q", nil)
			if c.asked == "" {
				require.Equal(t, http.StatusInternalServerError, w.Code)
				require.Nil(t, asked.last)
				require.Equal(t, "Failed to resolve service: f.\n", w.Body.String())
				return
			}
			require.Equal(t, http.StatusNoContent, w.Code)
			require.Equal(t, c.asked, asked.last.URL.String())
		})
	}
}

// transport notes the last request, and answers it with 204.
type transport struct{ last *http.Request }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.last = r.Clone(context.Background())
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, nil
}
