package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// with starts a gateway that has one option of grpc-gateway's.
func with(t *testing.T, o ...runtime.ServeMuxOption) *started {
	t.Helper()
	opts := lean()
	opts.Mux = o
	return start(t, opts)
}

const plain = "POST /shop.Shop/Plain"

func TestOptionsOfServeMux(t *testing.T) {
	upper := func(name string) (string, bool) { return "X-" + strings.ToUpper(name), true }
	t.Run("WithIncomingHeaderMatcher", func(t *testing.T) {
		s := with(t, runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) { return "in-" + name, name == "X-Some" }))
		s.do(t, plain, "", "X-Some: 1")
		md, _ := s.seen()
		assert.Equal(t, []string{"1"}, md["in-x-some"])
	})
	t.Run("WithOutgoingHeaderMatcher", func(t *testing.T) {
		a := with(t, runtime.WithOutgoingHeaderMatcher(upper)).do(t, plain, "")
		assert.Equal(t, "h", a.header.Get("X-X-Head"))
	})
	t.Run("WithOutgoingTrailerMatcher", func(t *testing.T) {
		a := with(t, runtime.WithOutgoingTrailerMatcher(upper)).do(t, plain, "", "TE: trailers")
		assert.Equal(t, "t", a.trailer.Get("X-X-Tail"))
	})
	t.Run("WithMetadata", func(t *testing.T) {
		s := with(t, runtime.WithMetadata(func(ctx context.Context, req *http.Request) metadata.MD {
			method, _ := runtime.RPCMethod(ctx)
			pattern, _ := runtime.HTTPPathPattern(ctx)
			return metadata.Pairs("a", method+" "+pattern+" "+req.Method)
		}), runtime.WithMetadata(func(context.Context, *http.Request) metadata.MD { return metadata.Pairs("b", "2") }))
		s.do(t, "GET /v1/search", "")
		md, _ := s.seen()
		assert.Equal(t, []string{"/shop.Shop/Search /v1/search GET"}, md["a"])
		assert.Equal(t, []string{"2"}, md["b"])
	})
	t.Run("WithForwardResponseOption", func(t *testing.T) {
		s := with(t, runtime.WithForwardResponseOption(func(_ context.Context, w http.ResponseWriter, m proto.Message) error {
			if m == nil {
				w.Header().Set("X-Stream", "begins")
			}
			if m != nil && m.ProtoReflect().Descriptor().Name() == "Item" {
				w.Header().Set("X-Seen", "yes")
				w.WriteHeader(http.StatusCreated)
			}
			return nil
		}))
		a := s.do(t, plain, "")
		assert.Equal(t, "yes", a.header.Get("X-Seen"))
		assert.Equal(t, http.StatusCreated, a.status)
		assert.Empty(t, a.header.Get("X-Stream"))
		a = s.do(t, "GET /v1/watch?big=1", "")
		assert.Equal(t, http.StatusCreated, a.status)
		assert.Equal(t, "begins", a.header.Get("X-Stream"))
	})
	t.Run("WithForwardResponseRewriter", func(t *testing.T) {
		s := with(t, runtime.WithForwardResponseRewriter(func(_ context.Context, m proto.Message) (any, error) {
			return map[string]any{"wrapped": m}, nil
		}))
		assert.Equal(t, `{"wrapped":{"ok":true}}`, s.do(t, plain, `{"ok":true}`).body)
		assert.Equal(t, `{"result":{"wrapped":{}}}`+"\n", s.do(t, "GET /v1/watch?big=1", "").body)
		assert.Contains(t, s.do(t, plain, "", "Grpc-Metadata-Fail: 5").body, `{"wrapped":{"code":5`)
	})
	t.Run("WithMarshalerOption", func(t *testing.T) {
		s := with(t, runtime.WithMarshalerOption("application/x-protobuf", &runtime.ProtoMarshaller{}))
		a := s.do(t, plain, "\x10\x07", "Content-Type: application/x-protobuf")
		assert.Equal(t, "\x10\x07", a.body)
		assert.Equal(t, `{"big":"7"}`, s.do(t, plain, `{"big":7}`).body)
	})
	t.Run("WithMarshalerOption for everything", func(t *testing.T) {
		s := with(t, runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{UseProtoNames: true}}))
		assert.Equal(t, `{"update_mask":"ok"}`, s.do(t, plain, `{"updateMask":"ok"}`).body)
		assert.Equal(t, `{"result":{}}`+"\n", s.do(t, "GET /v1/watch?big=1", "").body)
		assert.Equal(t, `{"name":"a","big":"1"}`, s.do(t, "POST /v1/collect", `{"name":"a"}`).body)
	})
	t.Run("WithErrorHandler", func(t *testing.T) {
		s := with(t, runtime.WithErrorHandler(func(
			_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error,
		) {
			http.Error(w, status.Convert(err).Message(), http.StatusTeapot)
		}))
		a := s.do(t, plain, "", "Grpc-Metadata-Fail: 5")
		assert.Equal(t, http.StatusTeapot, a.status)
		assert.Equal(t, "failed as asked\n", a.body)
	})
	t.Run("WithStreamErrorHandler", func(t *testing.T) {
		s := with(t, runtime.WithStreamErrorHandler(func(context.Context, error) *status.Status { return status.New(codes.Aborted, "mine") }))
		a := s.do(t, "GET /v1/watch?big=1", "", "Grpc-Metadata-Fail: 5")
		assert.Contains(t, a.body, `{"error":{"code":10,"message":"mine"}}`)
	})
	t.Run("WithRoutingErrorHandler", func(t *testing.T) {
		s := with(t, runtime.WithRoutingErrorHandler(func(
			_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, code int,
		) {
			w.WriteHeader(code)
		}))
		assert.Equal(t, 404, s.do(t, "GET /nope", "").status)
		assert.Equal(t, 405, s.do(t, "DELETE /v1/search", "").status)
		assert.Equal(t, 405, s.do(t, "GET /shop.Shop/Plain", "").status)
	})
	t.Run("WithUnescapingMode", func(t *testing.T) {
		s := with(t, runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptSlash))
		assert.Equal(t, `{"name":"a%2Fb"}`, s.do(t, "GET /v1/deep/a%2Fb", "").body)
		assert.Equal(t, 400, s.do(t, "GET /v1/deep/a%2Fb?big=x", "").status)
	})
	t.Run("WithMiddlewares", func(t *testing.T) {
		s := with(t, runtime.WithMiddlewares(func(next runtime.HandlerFunc) runtime.HandlerFunc {
			return func(w http.ResponseWriter, req *http.Request, params map[string]string) {
				pattern, _ := runtime.HTTPPattern(req.Context())
				w.Header().Set("X-Pattern", pattern.String())
				next(w, req, params)
			}
		}))
		assert.Equal(t, "/v1/{name=shelves/*/items/*}", s.do(t, "GET /v1/shelves/1/items/2", "").header.Get("X-Pattern"))
		assert.Equal(t, "/shop.Shop/Plain", s.do(t, plain, "").header.Get("X-Pattern"))
	})
	t.Run("WithWriteContentLength", func(t *testing.T) {
		long := `{"name":"` + strings.Repeat("x", 10_000) + `"}` // net/http says the length of short ones itself
		assert.Empty(t, with(t).do(t, plain, long).header.Get("Content-Length"))
		assert.NotEmpty(t, with(t, runtime.WithWriteContentLength()).do(t, plain, long).header.Get("Content-Length"))
	})
	t.Run("WithDisableChunkedEncoding", func(t *testing.T) {
		for disabled, s := range map[bool]*started{false: with(t), true: with(t, runtime.WithDisableChunkedEncoding())} {
			w := httptest.NewRecorder()
			s.gateway.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/watch?big=1", nil))
			assert.Equal(t, disabled, w.Header().Get("Transfer-Encoding") == "")
		}
	})
	t.Run("WithHealthEndpointAt", func(t *testing.T) {
		health := &healthClient{status: grpc_health_v1.HealthCheckResponse_SERVING}
		s := with(t, runtime.WithHealthEndpointAt(health, "/h"), runtime.WithHealthzEndpoint(health))
		assert.Equal(t, 200, s.do(t, "GET /h", "").status)
		assert.Contains(t, s.do(t, "GET /healthz", "").body, `{"status":"SERVING"}`)
		health.status = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		assert.Equal(t, 503, s.do(t, "GET /h", "").status)
	})
	t.Run("paths of one's own", func(t *testing.T) {
		s := with(t, func(mux *runtime.ServeMux) {
			_ = mux.HandlePath("GET", "/v1/own/{name}", func(w http.ResponseWriter, _ *http.Request, params map[string]string) {
				_, _ = io.WriteString(w, "own "+params["name"])
			})
		})
		assert.Equal(t, "own x", s.do(t, "GET /v1/own/x", "").body)
		assert.Equal(t, 200, s.do(t, "GET /v1/search", "").status)
	})
}

// healthClient is a backend's health.
type healthClient struct {
	grpc_health_v1.HealthClient
	status grpc_health_v1.HealthCheckResponse_ServingStatus
}

func (h *healthClient) Check(
	context.Context, *grpc_health_v1.HealthCheckRequest, ...grpc.CallOption,
) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{Status: h.status}, nil
}

// fixedParser finds the same in every query.
type fixedParser struct{}

func (fixedParser) Parse(m proto.Message, _ url.Values, _ *utilities.DoubleArray) error {
	return runtime.PopulateFieldFromPath(m, "name", "fixed")
}

func TestSetQueryParameterParser(t *testing.T) {
	defer runtime.NewServeMux(runtime.SetQueryParameterParser(&queryParser{}))
	s := with(t, runtime.SetQueryParameterParser(fixedParser{}))
	start(t, lean()) // takes nothing away
	assert.Equal(t, `{"name":"fixed"}`, s.do(t, "GET /v1/search?name=x", "").body)
}

func TestMethodOverrideHasToBeAskedFor(t *testing.T) {
	o := lean()
	o.MethodOverride = true
	s := start(t, o)
	form := "Content-Type: application/x-www-form-urlencoded"
	assert.Equal(t, `{"big":"5"}`, s.do(t, "POST /v1/search", "big=5", form).body)
	assert.Equal(t, `{"big":"6"}`, s.do(t, "POST /v1/search", "big=6", form, "X-HTTP-Method-Override: GET").body)
	o.Mux = []runtime.ServeMuxOption{runtime.WithDisablePathLengthFallback(), runtime.WithDisableHTTPMethodOverride()}
	assert.Equal(t, 501, start(t, o).do(t, "POST /v1/search", "big=5", form).status)
}

func TestCodeStatus(t *testing.T) {
	o := lean()
	o.CodeStatus = map[codes.Code]int{codes.NotFound: 410, codes.Unimplemented: 405}
	s := start(t, o)
	assert.Equal(t, 410, s.do(t, plain, "", "Grpc-Metadata-Fail: 5").status)
	assert.Equal(t, 410, s.do(t, "GET /v1/watch", "", "Grpc-Metadata-Fail: 5").status)
	assert.Equal(t, 405, s.do(t, "DELETE /v1/search", "").status)
	assert.Equal(t, 403, s.do(t, plain, "", "Grpc-Metadata-Fail: 7").status)
}

func TestEnvelope(t *testing.T) {
	o := lean()
	o.Envelope = &Envelope{}
	s := start(t, o)
	for _, c := range []struct {
		do, body string
		headers  []string
		status   int
		want     string
	}{
		{do: plain, body: `{"ok":true}`, want: `{"errno":0,"msg":"","data":{"ok":true}}`},
		{do: "POST /v1/show/tags", body: `{"tags":["a"]}`, want: `{"errno":0,"msg":"","data":["a"]}`},
		{do: plain, headers: []string{"Grpc-Metadata-Fail: 5"}, status: 404, want: `{"errno":5,"msg":"failed as asked","data":null}`},
		{
			do: plain, headers: []string{"Grpc-Metadata-Fail: 5", "Grpc-Metadata-Detail: x"}, status: 404,
			want: `{"errno":5,"msg":"failed as asked","data":[{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}]}`,
		},
		{do: "GET /nope", status: 404, want: `{"errno":5,"msg":"Not Found","data":null}`},
		{do: plain, body: "{", status: 400, want: `{"errno":3,"msg":"the body: `},
		{
			do: "GET /v1/watch?big=1", headers: []string{"Grpc-Metadata-Fail: 5"},
			want: `{"errno":0,"msg":"","data":{}}` + "\n" + `{"errno":5,"msg":"failed as asked","data":null}` + "\n",
		},
		{
			do: "GET /v1/watch?big=1", headers: []string{"Grpc-Metadata-Fail: 5", "Accept: text/event-stream"},
			want: "data: {\"errno\":0,\"msg\":\"\",\"data\":{}}\n\nevent: error\ndata: {\"errno\":5,\"msg\":\"failed as asked\",\"data\":null}\n\n",
		},
		{do: "POST /v1/body", body: "raw", want: "raw"},
		{do: "POST /v1/show/file", body: `{"file":{"data":"YWI="}}`, want: "ab"},
	} {
		a := s.do(t, c.do, c.body, c.headers...)
		assert.Equal(t, max(200, c.status), a.status, c.do)
		assert.True(t, strings.HasPrefix(a.body, c.want), "%s: %s", c.do, a.body)
	}
	o.Envelope = &Envelope{AlwaysOK: true, Errno: "code", Msg: "error", Data: "result"}
	a := start(t, o).do(t, plain, "", "Grpc-Metadata-Fail: 5")
	assert.Equal(t, 200, a.status)
	assert.Equal(t, `{"code":5,"error":"failed as asked","result":null}`, a.body)
}

// A Marshaler of grpc-gateway's own, as its users give one, writes envelopes, too.
func TestEnvelopeByAnotherMarshaler(t *testing.T) {
	o := lean()
	o.Envelope = &Envelope{}
	o.Mux = []runtime.ServeMuxOption{
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{}}),
	}
	s := start(t, o)
	const reply, failure = `{"errno":0,"msg":"","data":{"big":"1"}}`, `{"errno":5,"msg":"failed as asked","data":null}`
	assert.Equal(t, reply, s.do(t, plain, `{"big":1}`).body)
	assert.Equal(t, failure, s.do(t, plain, "", "Grpc-Metadata-Fail: 5").body)
	assert.Contains(t, s.do(t, "GET /v1/watch?big=2", "", "Grpc-Metadata-Fail: 5").body, reply+"\n"+failure+"\n")
	events := s.do(t, "GET /v1/watch?big=2", "", "Grpc-Metadata-Fail: 5", "Accept: text/event-stream").body
	assert.Contains(t, events, "data: "+reply+"\n\nevent: error\ndata: "+failure+"\n\n")
	messages, _ := s.talk(t, "/shop.Shop/Plain", `{"big":1}`)
	assert.Equal(t, []string{reply}, messages)
	assert.Equal(t, "raw", s.do(t, "POST /v1/body", "raw").body)
}

func TestServicesAreReplaced(t *testing.T) {
	s := start(t, lean())
	g := New(Options{Conn: s.conn, OpenAPIPath: "/openapi.json"})
	s.url = serve(t, g)
	a := s.do(t, plain, "")
	assert.Equal(t, 503, a.status)
	assert.Contains(t, a.body, "no schema yet")

	services := slices.Collect(s.schema.Services())
	require.NoError(t, g.Use(services))
	assert.Equal(t, 200, s.do(t, plain, "").status)
	broken := compiled(t, strings.Replace(shop, `"/v1/search"`, `"/v1/{nope}"`, 1))
	err := g.Use(slices.Collect(broken.Services()))
	require.EqualError(t, err, `method shop.Shop.Search: google.api.http: GET "/v1/{nope}": variable {nope}: message shop.Item has no field "nope"`)
	assert.Equal(t, 200, s.do(t, "GET /v1/search", "").status)

	done := make(chan struct{})
	go func() { // ends after 20 times
		defer close(done)
		for range 20 {
			assert.NoError(t, g.Use(services))
		}
	}()
	for range 50 {
		assert.Equal(t, 200, s.do(t, "GET /v1/search?color=RED", "").status)
	}
	<-done
	require.NoError(t, g.Use(nil))
	assert.Equal(t, 404, s.do(t, plain, "").status)
}

func TestTheFirstOfTwoMethodsHasAPath(t *testing.T) {
	two := compiled(t, `syntax = "proto3"; package shop; import "google/api/annotations.proto"; message Item { string name = 1; int64 big = 2; }
service Shop { rpc Plain(Item) returns (Item) { option (google.api.http) = { get: "/v1/{name}" }; } }
service Zoo { rpc Other(Item) returns (Item) { option (google.api.http) = { get: "/v1/{big}" }; } }`)
	var log bytes.Buffer
	s := start(t, lean())
	o := lean()
	o.Conn, o.Logger, o.NoDefaultPOST = s.conn, slog.New(slog.NewTextHandler(&log, nil)), true
	g := New(o)
	s.url = serve(t, g)
	require.NoError(t, g.Use(slices.Collect(two.Services())))
	assert.Equal(t, `{"name":"7"}`, s.do(t, "GET /v1/7", "").body)
	assert.Contains(t, log.String(), `template=/v1/{big} first=shop.Shop.Plain second=shop.Zoo.Other`)
	assert.Equal(t, 404, s.do(t, plain, "").status)
}

func TestAPanicEndsOneRequest(t *testing.T) {
	var late atomic.Bool
	var log bytes.Buffer
	o := lean()
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.Mux = []runtime.ServeMuxOption{runtime.WithMiddlewares(func(next runtime.HandlerFunc) runtime.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request, params map[string]string) {
			if late.Load() {
				next(w, req, params)
			}
			panic("as asked")
		}
	})}
	s := start(t, o)
	a := s.do(t, plain, "")
	assert.Equal(t, 500, a.status)
	assert.Contains(t, a.body, `"code":13`)
	assert.Contains(t, log.String(), "as asked")
	late.Store(true)
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/v1/watch?big=1", nil)
	require.NoError(t, err)
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	_, err = new(bytes.Buffer).ReadFrom(resp.Body)
	require.Error(t, err)
	_ = resp.Body.Close()
	assert.Equal(t, 404, s.do(t, "GET /nope", "").status)
}

// brokenCodec is a Marshaler that panics in the goroutine that reads requests.
type brokenCodec struct{ runtime.Marshaler }

func (brokenCodec) Unmarshal([]byte, any) error { panic(errors.New("as asked")) }

func (b brokenCodec) NewDecoder(_ io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(any) error { panic(errors.New("as asked")) })
}

func TestAPanicOfARequestOfAStreamEndsIt(t *testing.T) {
	s := with(t, runtime.WithMarshalerOption(runtime.MIMEWildcard, brokenCodec{&runtime.JSONPb{}}))
	a := s.do(t, "POST /v1/collect", "{}")
	assert.Equal(t, 500, a.status)
	assert.Contains(t, a.body, "panic")
}
