package function

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkPlain compares a plain request through a Handler with one through
// httputil.ReverseProxy, over sockets and to the same function:
//
//	go test ./function -run '^$' -bench Plain -benchmem
func BenchmarkPlain(b *testing.B) {
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Duration-Seconds", "0.001")
		_, _ = io.Copy(io.Discard, r.Body)
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		_, _ = w.Write(make([]byte, size))
	}))
	defer function.Close()
	base, _ := url.Parse(function.URL)
	transport := newTransport(patience, DefaultMaxConns, DefaultMaxConns)
	defer transport.CloseIdleConnections()
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{
		{"function", New(Options{Resolver: to(b, function.URL), Transport: transport, Logger: slog.New(slog.DiscardHandler)})},
		{"ReverseProxy", &httputil.ReverseProxy{Transport: transport, BufferPool: &pieces, Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.SetXForwarded()
		}}},
	} {
		for _, size := range []int{100, 100_000} {
			b.Run(c.name+"/"+map[int]string{100: "100B", 100_000: "100kB"}[size], func(b *testing.B) { benchmark(b, c.handler, size) })
		}
	}
}

// benchmark makes calls from several clients, with headers as browsers send them, for
// responses of that size.
func benchmark(b *testing.B, h http.Handler, size int) {
	server := httptest.NewServer(h)
	defer server.Close()
	url := server.URL + "/function/f/x?size=" + strconv.Itoa(size)
	client := &http.Transport{MaxIdleConnsPerHost: 100}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader("some JSON"))
			for _, key := range []string{"Accept", "Accept-Language", "Cookie", "Referer", "Authorization", "Content-Type"} {
				r.Header.Set(key, "some/value; of=a; header")
			}
			response, err := client.RoundTrip(r)
			if err != nil {
				b.Error(err)
				return
			}
			n, err := io.Copy(io.Discard, response.Body)
			if err != nil || n != int64(size) || response.StatusCode != http.StatusOK {
				b.Error(response.Status, n, err)
				return
			}
			_ = response.Body.Close()
		}
	})
}
