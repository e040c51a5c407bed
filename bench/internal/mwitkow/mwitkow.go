// Package mwitkow is the proxy most Go programs would be built on today, mwitkow/grpc-proxy, made as fast as its
// documentation allows: it is what the others are compared with.
package mwitkow

import (
	"net"

	"github.com/mwitkow/grpc-proxy/proxy"
	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

// Serve forwards every call that comes to listen over one connection to backend, until the process ends.
func Serve(listen, backend string) error {
	conn, err := wire.NewClient(backend)
	if err != nil {
		return err
	}
	defer conn.Close()
	lis, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return newServer(conn).Serve(lis)
}

// newServer uses the package's own director, which forwards the metadata. It sets no codec: Codec and CodecWithParent
// are marked "no longer necessary" in this version, and grpc-go's own protobuf codec, which reuses buffers, was
// measured against it (see README.md).
func newServer(conn *grpc.ClientConn) *grpc.Server {
	return proxy.NewProxy(conn,
		grpc.MaxRecvMsgSize(wire.MaxMessage),
		grpc.MaxSendMsgSize(wire.MaxMessage),
	)
}
