package function

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// bases are what functions are at or below in FuzzRequestsStayBelow: as a resolver says,
// the authority, and the segments of the path.
var bases = []struct{ url, authority, path string }{
	{"http://10.0.0.1", "10.0.0.1:8080", ""},
	{"http://fn.example:81/", "fn.example:81", ""},
	{"https://[::1]:443/base", "[::1]:443", "/base"},
	{"http://fn/a/b/", "fn:8080", "/a/b"},
}

// FuzzRequestsStayBelow: whatever a request target is, what the function's server reads
// is for the host that the resolver said, and for a path below; or the request is
// refused, and there is a reason for it.
func FuzzRequestsStayBelow(f *testing.F) {
	for i, target := range []string{
		"/function/f", "/function/f/", "/function/f/a/b?c=d", "/function/f/../x", "/function/f/%2e%2e/x", "/function/../f",
		"/function/f//evil/x", "/function/f/%2fevil", "/function/f/a%2fb", "/function/f/a%2f..%2f..%2f", `/function/f/..\x`,
		"/function/f/%5c..%5c", "/function/f/%00", "/function/f/%0d%0aHost:x", "/function/a@b/c", "/function/f?a b", "/function/f?#",
		"http://evil/function/f/x", "//evil/function/f", "mailto:/function/f", "*", "/function/f/..;/x", "/function/f/%252e%252e/",
		"/function/f/a|%2f%2e", "/function/f/!", "/function/0%2f ", "/function/f/.;/x", "/function/f?", "/function/f/\xff", "/function/" + strings.Repeat("a", 254),
	} {
		f.Add(target, byte(i))
	}
	f.Fuzz(func(t *testing.T, target string, base byte) {
		u, err := url.ParseRequestURI(target) // as net/http's servers do
		if err != nil {
			return
		}
		b := bases[int(base)%len(bases)]
		sent := &recorded{}
		h := New(Options{Resolver: to(t, b.url), Transport: sent, Logger: slog.New(slog.DiscardHandler)})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: "GET", URL: u, Host: "gateway", RemoteAddr: "192.0.2.1:1", Header: http.Header{}})

		sub, query, ok := model(target)
		if !ok {
			require.Contains(t, []int{http.StatusBadRequest, http.StatusRequestURITooLong}, w.Code)
			require.Empty(t, sent.bytes.Bytes())
			return
		}
		require.Equal(t, http.StatusNoContent, w.Code, w.Body)
		arrives, err := http.ReadRequest(bufio.NewReader(&sent.bytes))
		require.NoError(t, err)
		require.Equal(t, b.authority, arrives.Host)
		uri, gotQuery, _ := strings.Cut(arrives.RequestURI, "?")
		require.Equal(t, query, gotQuery)
		want := b.path + sub
		if want == "" || sub == "" && strings.HasSuffix(b.url, "/") {
			want += "/"
		}
		require.Equal(t, percentDecoded(want), percentDecoded(uri))
		require.Equal(t, notOfPaths.ReplaceAllStringFunc(want, percentEncoded), uri, "byte for byte")
		requireBelow(t, b.path, uri)
	})
}

// recorded is a transport that keeps what a request looks like on the wire.
type recorded struct{ bytes bytes.Buffer }

func (r *recorded) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := request.Write(&r.bytes); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, nil
}

var (
	absolute    = regexp.MustCompile(`^[a-zA-Z][-+.a-zA-Z0-9]*:(//[^/?]*)?`)
	ofFunction  = regexp.MustCompile(`(?s)^/function/([-a-zA-Z_0-9.]{1,253})(/.*)?$`)
	refusedPath = regexp.MustCompile(`(?s)^//|[\\\x00-\x1f\x7f]|/\.\.?(/|;|$)`)
	notOfPaths  = regexp.MustCompile(`[^-a-zA-Z0-9._~!$&'()*+,;=:@/%\[\]]+`)
)

// model says what becomes of a request target: what goes below the function's URL, and
// the query, if the request is passed on.
func model(target string) (sub, query string, ok bool) {
	p, query, _ := strings.Cut(target, "?")
	parts := ofFunction.FindStringSubmatch(absolute.ReplaceAllString(p, ""))
	if parts == nil || parts[1] == "." || parts[1] == ".." {
		return "", "", false
	}
	if refusedPath.MatchString(percentDecoded(parts[2])) || strings.ContainsAny(query, " #") {
		return "", "", false
	}
	return parts[2], query, true
}

func percentEncoded(s string) string {
	var encoded strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&encoded, "%%%02X", s[i])
	}
	return encoded.String()
}

// percentDecoded decodes what is well-formed.
func percentDecoded(s string) string {
	const digits = "0123456789abcdef"
	var decoded []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			decoded = append(decoded, s[i])
			continue
		}
		pair := strings.ToLower(s[i+1 : i+3])
		decoded = append(decoded, byte(strings.IndexByte(digits, pair[0])<<4|strings.IndexByte(digits, pair[1])))
		i += 2
	}
	return string(decoded)
}

// requireBelow resolves a path in all the ways that servers might, which must not lead
// elsewhere.
func requireBelow(t *testing.T, base, uri string) {
	t.Helper()
	require.False(t, strings.HasPrefix(uri, "//"), "a host, for some: %s", uri)
	slashes := strings.NewReplacer(`\`, "/").Replace
	for _, resolved := range []string{
		path.Clean(uri),
		path.Clean(slashes(percentDecoded(uri))),
		slashes(percentDecoded(path.Clean(uri))),
		path.Clean(regexp.MustCompile(`;[^/]*`).ReplaceAllString(percentDecoded(uri), "")),
	} {
		require.True(t, resolved == base || strings.HasPrefix(resolved, base+"/"), "%s is %s", uri, resolved)
	}
}
