package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPathsBelowThePrefix(t *testing.T) {
	says := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, name+" "+req.URL.Path) })
	}
	all := webPaths{
		gateway: says("gateway"), prefix: "/api", openAPI: "/openapi.json", functions: says("functions"), functionsPrefix: "/function/",
	}
	for path, want := range map[string]string{
		"/api/a": "gateway /a", "/api//a": "gateway //a", "/api/": "gateway /", "/api%2fa": "gateway /a",
		"/openapi.json": "gateway /openapi.json", "/function/a": "functions /function/a", "/function%2fa": "functions /function/a",
		"/api": "", "/apis/a": "", "/": "", "//api/a": "", "/x/../api/a": "", "/function": "",
	} {
		w := httptest.NewRecorder()
		all.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if want == "" {
			assert.Equal(t, http.StatusNotFound, w.Code, path)
			continue
		}
		assert.Equal(t, want, w.Body.String(), path)
	}
}
