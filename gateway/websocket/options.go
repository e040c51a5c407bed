package websocket

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Options says how WebSockets are served. The zero value is safe.
type Options struct {
	// ReadLimit is the longest message of a client in bytes. Default 4 MiB.
	ReadLimit int64
	// OriginPatterns are the origins, beside the server's own, whose pages may
	// connect: patterns as in path.Match of host and port, or of scheme://host:port.
	// Others are refused with 403, so that no site can act in a visitor's name.
	// Clients that are no browsers need not say an origin.
	OriginPatterns []string
	// Bearer takes credentials from the one header that a browser's scripts can set:
	// new WebSocket(url, ["bearer", TOKEN]) is as "Authorization: Bearer TOKEN".
	Bearer bool
	// PingInterval is how often clients are asked whether they are still there, and
	// PingTimeout how long they have to answer. Default 30 s, 10 s. A negative
	// interval is never.
	PingInterval, PingTimeout time.Duration
	// WriteTimeout is how long a client may take to make room for a message. Default
	// 30 s.
	WriteTimeout time.Duration
	// LingerTimeout is how long a call may go on, to take in what has been sent, once
	// its client has closed the connection normally. Default 10 s.
	LingerTimeout time.Duration
	// CloseTimeout is how long a client may take to answer that the connection is to be
	// closed. Default 5 s.
	CloseTimeout time.Duration
	// Logger is told of panics. Default slog.Default().
	Logger *slog.Logger
}

// Check returns what is wrong with o, nil if nothing is.
func (o *Options) Check() error {
	for _, p := range o.OriginPatterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("origin pattern %q: brackets and backslashes must be as in path.Match: %w", p, err)
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.ReadLimit <= 0 {
		o.ReadLimit = 4 << 20
	}
	o.PingInterval = cmp.Or(o.PingInterval, 30*time.Second)
	o.PingTimeout = cmp.Or(o.PingTimeout, 10*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 30*time.Second)
	o.LingerTimeout = cmp.Or(o.LingerTimeout, 10*time.Second)
	o.CloseTimeout = cmp.Or(o.CloseTimeout, 5*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	return o
}

// Call is the call that a WebSocket is opened for. Its functions are called by one
// goroutine for each direction.
type Call struct {
	// Open opens the call, which ends with ctx. r is the request for the WebSocket,
	// with the Authorization that Options.Bearer makes of it. It is called once, after
	// the origin of r has been checked.
	Open func(ctx context.Context, r *http.Request) (grpc.ClientStream, error)
	// ClientStreams and ServerStreams are the method's kind.
	ClientStreams, ServerStreams bool
	// NewRequest and NewResponse return empty messages.
	NewRequest, NewResponse func() proto.Message
	// Codec is how messages are written and read: JSON.
	Codec Codec
	// Prepare, if set, completes a request message that has been read, such as by what
	// the URL says. An error without a gRPC status is one of INVALID_ARGUMENT.
	Prepare func(m proto.Message) error
	// Result returns the text for a response message. Default {"result": MESSAGE}.
	Result func(m proto.Message) ([]byte, error)
	// Error returns the text for the error of a call, nil for none. Default
	// {"error": STATUS}.
	Error func(err error) []byte
}

// Codec writes and reads messages. A Marshaler of grpc-gateway is one.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}
