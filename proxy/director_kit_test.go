package proxy_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// directedMethod is what calls are made to unless the test is about method names.
const directedMethod = "/company.Orders/Get"

// directedBackend answers any call with its name, once it has got the request.
type directedBackend struct {
	name    string
	address string
	calls   atomic.Int64
	seen    chan context.Context // of calls
	hold    chan struct{}        // closed to let calls be answered; nil: at once
}

func startDirectedBackend(t testing.TB, name string, opts ...grpc.ServerOption) *directedBackend {
	b := &directedBackend{name: name, seen: make(chan context.Context, 100)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.address = ln.Addr().String()
	svr := grpc.NewServer(append(opts, grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(b.serve), grpc.WaitForHandlers(true))...)
	served := make(chan error, 1)
	go func() { served <- svr.Serve(ln) }() // ends with the test
	t.Cleanup(func() {
		svr.Stop()
		<-served
	})
	return b
}

func (b *directedBackend) serve(_ any, ss grpc.ServerStream) error {
	b.calls.Add(1)
	var request []byte
	if err := ss.RecvMsg(&request); err != nil {
		return err
	}
	b.seen <- ss.Context()
	if b.hold != nil {
		select {
		case <-b.hold:
		case <-ss.Context().Done():
			return ss.Context().Err()
		}
	}
	reply := []byte(b.name)
	return ss.SendMsg(&reply)
}

// directedDoor is a way to serve calls with a director. It returns the address.
type directedDoor func(t *testing.T, d proxy.Director) string

// directedDoors are all of them.
var directedDoors = map[string]directedDoor{
	"relay": relayDoor(conf.TransportNative), "relay, kitex": relayDoor(conf.TransportKitex),
	"TransparentHandler": func(t *testing.T, d proxy.Director) string {
		return proxytest.RunWithEcho(t, server.WithGRPCUnknownServiceHandler(proxy.TransparentHandler(d)))
	},
	"RegisterService": func(t *testing.T, d proxy.Director) string {
		return proxytest.Run(t, func(opts ...server.Option) server.Server {
			svr := server.NewServer(opts...)
			require.NoError(t, proxy.RegisterService(svr, d, "company.Orders", "Get", "Put"))
			return svr
		})
	},
}

func relayDoor(transport string) directedDoor {
	return func(t *testing.T, d proxy.Director) string {
		cfg := conf.Default()
		cfg.Transport = transport
		return proxytest.RunWithEcho(t, proxytest.NewRelay(t, cfg, proxy.WithDirector(d)).ServerOptions()...)
	}
}

// throughDoors runs a test once for each door.
func throughDoors(t *testing.T, test func(t *testing.T, door directedDoor)) {
	quietKitex()
	for name, door := range directedDoors {
		t.Run(name, func(t *testing.T) { test(t, door) })
	}
}

// directedClient makes calls with messages that are bytes.
type directedClient struct {
	t  testing.TB
	cc *grpc.ClientConn
}

func dialDirected(t testing.TB, address string, opts ...grpc.DialOption) *directedClient {
	cc, err := grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return &directedClient{t: t, cc: cc}
}

// call makes a call and returns the backend's name, and how it has ended.
func (c *directedClient) call(ctx context.Context, method string) (string, metadata.MD, error) {
	var reply []byte
	var trailer metadata.MD
	request := []byte("hello")
	err := c.cc.Invoke(ctx, method, &request, &reply, grpc.Trailer(&trailer))
	return string(reply), trailer, err
}

// start makes a call in the background.
func (c *directedClient) start(ctx context.Context, method string) <-chan error {
	ended := make(chan error, 1)
	go func() { // ends with the call
		_, _, err := c.call(ctx, method)
		ended <- err
	}()
	return ended
}

func (c *directedClient) requireName(ctx context.Context, method, want string) {
	c.t.Helper()
	name, _, err := c.call(ctx, method)
	require.NoError(c.t, err)
	require.Equal(c.t, want, name)
}

func requireStatus(t testing.TB, err error, code codes.Code, text string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, status.Code(err), err.Error())
	require.Contains(t, status.Convert(err).Message(), text)
}

// directedContext ends what would hang.
func directedContext(t testing.TB, pairs ...string) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), directedSafety)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}
