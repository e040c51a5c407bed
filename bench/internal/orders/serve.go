package orders

import (
	"context"
	"net"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

// Serve makes calls over one connection to backend of the requests that come to listen, until the process ends. The
// multiplexer is as its documentation makes it, without options.
func Serve(listen, backend string) error {
	conn, err := wire.NewClient(backend)
	if err != nil {
		return err
	}
	defer conn.Close()
	mux := runtime.NewServeMux()
	if err := RegisterBenchHandler(context.Background(), mux, conn); err != nil {
		return err
	}
	lis, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return http.Serve(lis, mux)
}
