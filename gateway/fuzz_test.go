package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// mirror is a connection whose backend replies with the request, and that notes the
// metadata.
type mirror struct {
	grpc.ClientConnInterface
	metadata metadata.MD
	requests int
}

func (m *mirror) Invoke(ctx context.Context, _ string, req, reply any, _ ...grpc.CallOption) error {
	m.metadata, _ = metadata.FromOutgoingContext(ctx)
	m.requests++
	b, err := proto.Marshal(req.(proto.Message))
	if err != nil {
		return err
	}
	return proto.Unmarshal(b, reply.(proto.Message))
}

// Whatever the path, the query, the body and a header say: nothing panics, what is no
// request is none with 200, and reserved metadata does not get through.
func FuzzRequests(f *testing.F) {
	conn := new(mirror)
	g := New(Options{Conn: conn})
	require.NoError(f, g.Use(slices.Collect(compiled(f, shop).Services())))
	for _, seed := range [][5]string{
		{"POST", "/v1/echo:all", "", `{"any":{"@type":"type.googleapis.com/shop.Item","ok":true}}`, "Grpc-Metadata-X: 1"},
		{"GET", "/v1/search", "palette[a]=RED&parent.parent.at=2020-01-02T03:04:05Z&extra={}", "", "Grpc-Timeout: 1S"},
		{"PATCH", "/v1/items/a%2Fb", "updateMask=a", `{"items":[{}],"extra":{"a":{}},"any":{"@type":"x"}}`, "Grpc-Metadata-Grpc-Status: forged"},
		{"PUT", "/v1/tags", "right=1&left=2", `["a"]`, "X-Forwarded-For: forged"},
		{"GET", "/v1/by-color/RED/1", "items.name=1&[]=1&a[=]&counts[1]=2", "", "Grpc-Metadata-A-Bin: AA=="},
		{"POST", "/v1/file/x", "file.data=aa", "\xff", "Content-Type: \xff/x"},
		{"POST", "/v1/show/file", "", `{"file":{"data":"AA=="}}`, "Cookie: a=b"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	f.Fuzz(func(t *testing.T, verb, path, query, body, header string) {
		switch verb {
		case "GET", "PUT", "POST", "PATCH", "DELETE":
		default:
			return
		}
		req := httptest.NewRequest(verb, "/", strings.NewReader(body))
		u, err := url.Parse("http://host" + path + "?" + query)
		if err != nil {
			return
		}
		req.URL = u
		if name, value, ok := strings.Cut(header, ": "); ok {
			req.Header[http.CanonicalHeaderKey(name)] = []string{value}
		}
		conn.metadata, conn.requests = nil, 0
		w := httptest.NewRecorder()
		g.ServeHTTP(w, req)
		assert.NotContains(t, w.Body.String(), "has made the gateway panic")
		if w.Code == http.StatusOK {
			assert.Equal(t, 1, conn.requests)
		}
		for key, values := range conn.metadata {
			if strings.HasPrefix(key, "x-forwarded-") || strings.HasPrefix(key, "grpcgateway-") {
				continue // set by the gateway
			}
			if key == "authorization" && strings.EqualFold(strings.SplitN(header, ":", 2)[0], key) {
				continue
			}
			assert.False(t, reserved(key), "%s: %q", key, values)
		}
	})
}
