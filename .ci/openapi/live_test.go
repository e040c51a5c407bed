package openapi

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/gateway"
	"github.com/kitexproxy/kitexproxy/handler/schema"
)

// replies are what the backend answers, by method. A request that has "missing" in it is
// answered with NOT_FOUND.
var replies = map[protoreflect.Name]string{
	"ListShelves":   `{"shelves":[{"name":"shelves/1","theme":"OLD","books":"7","width":7},{"above":{"width":1e300}}]}`,
	"GetShelf":      `{"name":"shelves/1","theme":"HISTORY","books":"18446744073709551615","width":-1.5,"above":{}}`,
	"CreateShelf":   `{"name":"shelves/2"}`,
	"DeleteShelf":   `{}`,
	"GetBook":       `{"name":"a","title":"b","scan":"AAE=","written":"2024-01-02T03:04:05.6Z","pages":0}`,
	"PutBook":       `{"name":"a","title":"b","text":""}`,
	"BorrowBook":    `{"name":"a","title":"b"}`,
	"FindFile":      `{"contentType":"image/x-test","data":"AP8="}`,
	"NumberedShelf": `{"name":"shelves/7"}`,
	"Watch":         `{"name":"a","title":"b"}`,
}

// startBackend returns connections to a grpc-go server that answers with replies.
func startBackend(t *testing.T, s *schema.Schema) *grpc.ClientConn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, call grpc.ServerStream) error { return answer(s, call) }))
	go func() { _ = server.Serve(ln) }() // ends with Stop
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func answer(s *schema.Schema, call grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(call)
	m := s.Method(full)
	request, reply := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if err := call.RecvMsg(request); err != nil {
		return err
	}
	if text, _ := protojson.Marshal(request); bytes.Contains(text, []byte("missing")) {
		st, err := status.New(codes.NotFound, "there is none").WithDetails(&errdetails.ResourceInfo{ResourceName: "missing"})
		if err != nil {
			return err
		}
		return st.Err()
	}
	if err := protojson.Unmarshal([]byte(replies[m.Name()]), reply); err != nil {
		return err
	}
	return call.SendMsg(reply)
}

// liveAPI is a gateway on a socket, and the document that it has of itself.
type liveAPI struct {
	*api
	url string
}

func startLive(t *testing.T, s *schema.Schema, opts gateway.Options) *liveAPI {
	t.Helper()
	opts.Unmarshal = new(protojson.UnmarshalOptions) // the default takes no notice of enums that it does not know
	opts.Conn, opts.OpenAPIPath, opts.Logger = startBackend(t, s), "/openapi.json", slog.New(slog.DiscardHandler)
	g := gateway.New(opts)
	require.NoError(t, g.Use(slices.Collect(s.Services())))
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	resp, err := http.Get(server.URL + opts.OpenAPIPath)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	doc, err := openapi3.NewLoader().LoadFromData(b)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context(), openapi3.EnableSchemaPatternValidation()))
	return &liveAPI{newAPI(t, doc), server.URL}
}

// exchange makes a request. It returns the status, and what the validator makes of the
// request and of the response.
func (l *liveAPI) exchange(t *testing.T, verb, path, body string) (code int, request, response error) {
	t.Helper()
	input, request := l.request(t, verb, path, body)
	require.NotNil(t, input, "%s %s: %v", verb, path, request)
	req, err := http.NewRequestWithContext(t.Context(), verb, l.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, request, openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header, Body: resp.Body,
	})
}

// TestAGatewayIsAsItsDocumentSays: what the document allows the gateway takes, what it does
// not allow is refused, and all responses are as it says, errors included.
func TestAGatewayIsAsItsDocumentSays(t *testing.T) {
	// The validator reads the bodies of these as they are.
	openapi3filter.RegisterBodyDecoder("image/x-test", openapi3filter.FileBodyDecoder)
	defer openapi3filter.UnregisterBodyDecoder("image/x-test")
	s := compile(t, "bookstore.proto")
	for name, opts := range map[string]gateway.Options{
		"defaults":    {},
		"lean":        {Marshal: &protojson.MarshalOptions{}},
		"proto names": {Marshal: &protojson.MarshalOptions{UseProtoNames: true}},
		"numbers":     {Marshal: &protojson.MarshalOptions{UseEnumNumbers: true}},
		"envelope":    {Envelope: &gateway.Envelope{}},
		"always OK":   {Envelope: &gateway.Envelope{AlwaysOK: true, Msg: "message"}},
	} {
		t.Run(name, func(t *testing.T) {
			enums := strings.NewReplacer()
			if opts.Marshal != nil && opts.Marshal.UseEnumNumbers { // which the document asks of requests, too
				enums = strings.NewReplacer(`"HISTORY"`, "1", "HISTORY", "1", "OLD", "2")
			}
			l := startLive(t, s, opts)
			for _, c := range []struct {
				verb, path, body string
				status           int
			}{
				{"GET", "/v1/shelves?pageSize=3&filter.theme=HISTORY&themes=OLD&themes=HISTORY", "", 200},
				{"GET", "/v1/shelves?labels[a]=1&since=2024-01-02T03:04:05Z&fields=a,b&token=AAE=&all=true&skip=7", "", 200},
				{"GET", "/v1/shelves?skip=-1", "", 400},
				{"GET", "/v1/shelves?filter.theme=NONE", "", 400},
				{"GET", "/v1/themes/HISTORY/shelves", "", 200},
				{"GET", "/v1/themes/PHYSICS/shelves", "", 400},
				{"GET", "/v1/shelves/1", "", 200},
				{"GET", "/v1/shelves/missing", "", 404},
				{"DELETE", "/v1/shelves/1", "", 200},
				{"DELETE", "/v1/shelves/missing", "", 404},
				{"GET", "/v1/shelves/1/books/2", "", 200},
				{"GET", "/v1/files/a", "", 200},
				{"GET", "/v1/files/missing", "", 404},
				{"POST", "/v1/shelves?requestId=1", `{"theme":"HISTORY"}`, 200},
				{"POST", "/v1/shelves", `{"theme":"HISTORIC"}`, 400},
				{"POST", "/v1/shelves", `{"books":[]}`, 400},
				{"POST", "/v1/shelves/1/books/2:borrow", `{"reader":"Ann"}`, 200},
				{"POST", "/v1/shelves/1/books/2:borrow", `{"reader":7}`, 400},
				{"PATCH", "/v1/shelves/1/books/2", `{"title":"A","pages":7}`, 200},
				{"PATCH", "/v1/shelves/1/books/2", `{"title":"A","pages":"many"}`, 400},
				{"POST", "/bookstore.v1.Bookstore/GetShelf", `{"name":"shelves/1"}`, 200},
				{"POST", "/bookstore.v1.Bookstore/GetShelf", `{"name":"missing"}`, 404},
			} {
				c.path, c.body = enums.Replace(c.path), enums.Replace(c.body)
				what := c.verb + " " + c.path + " " + c.body
				status, request, response := l.exchange(t, c.verb, c.path, c.body)
				assert.Equal(t, c.status == 400, request != nil, "%s: %v", what, request)
				assert.NoError(t, response, what)
				if opts.Envelope != nil && opts.Envelope.AlwaysOK {
					c.status = 200
				}
				assert.Equal(t, c.status, status, what)
			}
		})
	}
}
