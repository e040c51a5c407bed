package function

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
)

// The tests in this file claim what those of faas-provider's proxy package do (v0.25.10,
// handler_test.go and proxy_test.go), of handlers made by NewHandlerFunc. Routes are a
// part of the handler here, so that every path has one.

// provider is a NewHandlerFunc whose functions are all at one URL.
func provider(t testing.TB, base string) http.HandlerFunc {
	t.Helper()
	return NewHandlerFunc(types.FaaSConfig{ReadTimeout: patience}, to(t, base), hclog.NewNullLogger())
}

// answer has a handler answer a request as one of a server would be.
func answer(h http.Handler, method, target string, body io.Reader) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, body))
	return w
}

func TestProviderNeedsAResolver(t *testing.T) {
	require.PanicsWithValue(t, "function: NewHandlerFunc needs a resolver, which is nil", func() {
		NewHandlerFunc(types.FaaSConfig{ReadTimeout: 100 * time.Millisecond}, nil, hclog.NewNullLogger())
	})
	require.NotPanics(t, func() { require.NotNil(t, NewHandlerFunc(types.FaaSConfig{}, to(t, "http://a"), nil)) })
}

func TestProviderMethods(t *testing.T) {
	function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Method", r.Method)
		w.WriteHeader(http.StatusNoContent)
	}))
	h := provider(t, function.URL)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "HEAD"} {
		t.Run(method+" is passed on", func(t *testing.T) {
			w := answer(h, method, "/function/foo", nil)
			require.Equal(t, http.StatusNoContent, w.Code)
			require.Equal(t, method, w.Header().Get("X-Method"))
			require.Empty(t, w.Header().Get("X-OpenFaaS-Internal"), "it is the function's answer")
		})
	}
	for _, method := range []string{"CONNECT", "TRACE", "PROPFIND", "get"} {
		t.Run(method+" is not allowed", func(t *testing.T) {
			w := answer(h, method, "http://example.com/function/foo", nil)
			require.Equal(t, http.StatusMethodNotAllowed, w.Code)
			require.Equal(t, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT", w.Header().Get("Allow"))
		})
	}
}

func TestProviderAnswersByItself(t *testing.T) {
	gone := "http://" + loopback.Free(t)
	at := func(u url.URL, err error) resolve { return func(string) (url.URL, error) { return u, err } }
	for _, c := range []struct {
		claim    string
		path     string
		resolver resolve
		status   int
		text     string
		logs     string
	}{
		{
			"a request without a name is bad", "/function/", to(t, "http://a"),
			400, "Provide function name in the request path", "",
		},
		{
			"so is one that is for something else", "/foo", to(t, "http://a"),
			400, "Provide function name in the request path", "",
		},
		{
			"a function that is nowhere is unavailable", "/function/foo",
			at(url.URL{}, errors.New("can not find test service `foo`")),
			503, "No endpoints available for: foo.", "can not find test service `foo`",
		},
		{
			"whatever status the error would like", "/function/foo", at(url.URL{}, notFound{}),
			503, "No endpoints available for: foo.", "it is not there",
		},
		{
			"a URL that is none is an error", "/function/foo", at(url.URL{Scheme: "http", Host: "a b"}, nil),
			500, "Failed to resolve service: foo.", "the resolver's URL has the host",
		},
		{
			"so is a function that cannot be reached", "/function/foo/bar?secret=1", to(t, gone),
			500, "Can't reach service for: foo.", gone + "/bar ",
		},
	} {
		t.Run(c.claim, func(t *testing.T) {
			var logs bytes.Buffer
			h := NewHandlerFunc(types.FaaSConfig{}, c.resolver, hclog.New(&hclog.LoggerOptions{Output: &logs}))
			w := answer(h, "GET", c.path, nil)
			require.Equal(t, c.status, w.Code)
			require.Equal(t, c.text+"\n", w.Body.String())
			require.Equal(t, "proxy", w.Header().Get("X-OpenFaaS-Internal"))
			require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
			require.Contains(t, logs.String(), c.logs)
			require.NotContains(t, logs.String(), "secret", "queries are not for logs")
		})
	}
}

// notFound is a resolver's error with a status of its own.
type notFound struct{}

func (notFound) Error() string   { return "it is not there" }
func (notFound) HTTPStatus() int { return http.StatusNotFound }

func TestProviderFunctionFailsMidFlight(t *testing.T) {
	function := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	w := answer(provider(t, function.URL), "POST", "/function/foo", nil)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, "proxy", w.Header().Get("X-OpenFaaS-Internal"))
}

func TestProviderPassesStatusesOn(t *testing.T) {
	function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		if status > 399 {
			http.Error(w, "function error", status)
			return
		}
		w.WriteHeader(status)
	}))
	h := provider(t, function.URL)
	for _, status := range []int{200, 204, 302, 304, 400, 409, 422, 500, 503} {
		w := answer(h, "GET", fmt.Sprintf("/function/foo/%d", status), nil)
		require.Equal(t, status, w.Code)
		if status > 399 {
			require.Equal(t, "function error", strings.TrimSpace(w.Body.String()))
		}
	}
}

func TestProviderNamesAndPaths(t *testing.T) {
	function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) }))
	var asked string
	h := NewHandlerFunc(types.FaaSConfig{}, resolve(func(name string) (url.URL, error) {
		asked = name
		return to(t, function.URL)(name)
	}), hclog.NewNullLogger())
	for _, c := range []struct{ claim, path, name, arrives string }{
		{"a name alone", "/function/echo", "echo", "/"},
		{"a name with a namespace", "/function/echo.openfaas-fn", "echo.openfaas-fn", "/"},
		{"all that names may have", "/function/-aZ_09.", "-aZ_09.", "/"},
		{"a slash behind the name", "/function/echo/", "echo", "/"},
		{"a path behind the name", "/function/echo/subPath/extras", "echo", "/subPath/extras"},
		{"a path and a query", "/function/echo/subPath/extras?query=true", "echo", "/subPath/extras?query=true"},
		{"a query alone", "/function/echo?code=1&code=2;%zz", "echo", "/?code=1&code=2;%zz"},
		{"an empty query", "/function/echo?", "echo", "/?"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			w := answer(h, "GET", c.path, nil)
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			require.Equal(t, c.name, asked)
			require.Equal(t, c.arrives, w.Body.String())
		})
	}
}

func TestProviderContentType(t *testing.T) {
	function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		if own := r.Header.Get("X-Own"); own != "" {
			w.Header().Set("Content-Type", own)
		}
		_, _ = io.WriteString(w, "<html>")
	}))
	for _, c := range []struct{ claim, request, response, want string }{
		{"the response's", "text/csv", "application/json", "application/json"},
		{"or else the request's", "text/csv", "", "text/csv"},
		{"or else plain text, whatever it looks like", "", "", "text/plain"},
	} {
		for _, accept := range []string{"", "text/event-stream"} {
			t.Run(c.claim+" "+accept, func(t *testing.T) {
				r := httptest.NewRequest("GET", "/function/foo", nil)
				for key, value := range map[string]string{"Content-Type": c.request, "X-Own": c.response, "Accept": accept} {
					if value != "" {
						r.Header.Set(key, value)
					}
				}
				w := httptest.NewRecorder()
				provider(t, function.URL)(w, r)
				require.Equal(t, []string{c.want}, w.Header()["Content-Type"])
			})
		}
	}
}

func TestProviderRequestArrives(t *testing.T) {
	type arrived struct {
		method, uri, body, host string
		header                  http.Header
	}
	var got arrived
	function := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		got = arrived{r.Method, r.RequestURI, string(body), r.Host, r.Header}
	}))
	for _, target := range []string{
		"/function/xyz/", "/function/xyz/employee/info/300", "/function/xyz/employee/info/300?code=1", "/function/xyz/?code=1",
	} {
		r := httptest.NewRequest("POST", "http://gateway.example"+target, strings.NewReader("hello world"))
		r.Header["X-Source"] = []string{"unit-test", "twice"}
		w := httptest.NewRecorder()
		provider(t, function.URL)(w, r)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "POST", got.method)
		require.Equal(t, strings.TrimPrefix(target, "/function/xyz"), got.uri)
		require.Equal(t, "hello world", got.body)
		require.Equal(t, function.Listener.Addr().String(), got.host)
		require.Equal(t, []string{"unit-test", "twice"}, got.header["X-Source"])
	}
}

func TestProviderForwardedHeadersOnlyIfAbsent(t *testing.T) {
	var got http.Header
	function := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	for _, accept := range []string{"application/json", "text/event-stream"} {
		r := httptest.NewRequest("GET", "http://gateway.example/function/foo", nil)
		r.Header.Set("Accept", accept)
		r.RemoteAddr = "192.0.2.7:1234"
		provider(t, function.URL)(httptest.NewRecorder(), r)
		require.Equal(t, []string{"192.0.2.7:1234"}, got["X-Forwarded-For"])
		require.Equal(t, []string{"gateway.example"}, got["X-Forwarded-Host"])
		require.NotContains(t, got, "X-Forwarded-Proto")

		r.Header.Set("X-Forwarded-For", "198.51.100.1")
		r.Header.Set("X-Forwarded-Host", "there.example")
		r.Header.Set("X-Forwarded-Proto", "https")
		provider(t, function.URL)(httptest.NewRecorder(), r)
		require.Equal(t, []string{"198.51.100.1"}, got["X-Forwarded-For"])
		require.Equal(t, []string{"there.example"}, got["X-Forwarded-Host"])
		require.Equal(t, []string{"https"}, got["X-Forwarded-Proto"])
	}
}

func TestProviderLogsTiming(t *testing.T) {
	function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	var logs bytes.Buffer
	h := NewHandlerFunc(types.FaaSConfig{}, to(t, function.URL), hclog.New(&hclog.LoggerOptions{Output: &logs}))
	answer(h, "GET", "/function/foo", nil)
	require.Regexp(t, `\[INFO\] +function called: function=foo status=418 took=\S+s"?\n$`, logs.String())
}

func TestProxyClientFromConfig(t *testing.T) {
	for _, c := range []struct {
		claim         string
		config        types.FaaSConfig
		timeout       time.Duration
		idle, perHost int
	}{
		{"defaults", types.FaaSConfig{}, 10 * time.Second, 1024, 1024},
		{"values below zero are none", types.FaaSConfig{ReadTimeout: -1, MaxIdleConns: -1}, 10 * time.Second, 1024, 1024},
		{"as many per host as in all", types.FaaSConfig{MaxIdleConns: 7}, 10 * time.Second, 7, 7},
		{
			"values",
			types.FaaSConfig{ReadTimeout: time.Microsecond, MaxIdleConns: 20, MaxIdleConnsPerHost: 10},
			time.Microsecond, 20, 10,
		},
	} {
		t.Run(c.claim, func(t *testing.T) {
			client := NewProxyClientFromConfig(c.config)
			transport := client.Transport.(*http.Transport)
			require.Equal(t, c.timeout, client.Timeout)
			require.Equal(t, c.idle, transport.MaxIdleConns)
			require.Equal(t, c.perHost, transport.MaxIdleConnsPerHost)
			require.Equal(t, 10*time.Second, transport.TLSHandshakeTimeout)
			require.Nil(t, transport.Proxy, "calls go where the resolver says")
		})
	}
}

func TestProxyClientFollowsNoRedirects(t *testing.T) {
	s := serve(t, http.RedirectHandler("/elsewhere", http.StatusFound))
	client := NewProxyClient(patience, 1, 1)
	defer client.CloseIdleConnections()
	response, err := client.Do(request(t, "GET", s.URL, nil))
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	require.Equal(t, http.StatusFound, response.StatusCode)
}

func TestWhatIsAStream(t *testing.T) {
	for _, c := range []struct {
		claim, key, value string
		want              bool
	}{
		{"server-sent events", "Accept", "text/event-stream", true},
		{"server-sent events among others", "Accept", "application/json, text/event-stream;q=0.9, text/plain", true},
		{"lines of JSON", "Accept", "application/x-ndjson", true},
		{"lines of JSON among others", "Accept", "text/plain, application/x-ndjson;q=0.9, application/json;q=0.8", true},
		{"in capitals", "Accept", "APPLICATION/X-NDJSON", true},
		{"a WebSocket", "Upgrade", "websocket", true},
		{"a WebSocket in capitals", "Upgrade", "WebSocket", true},
		{"JSON is none", "Accept", "application/json", false},
		{"nor others", "Accept", "text/plain, application/json;q=0.9", false},
		{"nor another protocol", "Upgrade", "h2c", false},
		{"nor a request without headers", "", "", false},
	} {
		t.Run(c.claim, func(t *testing.T) {
			require.Equal(t, c.want, isStream(http.Header{c.key: {c.value}}))
		})
	}
}
