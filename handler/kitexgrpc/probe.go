package kitexgrpc

import (
	"context"
	"fmt"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// probeAnswer is the status message that answers a call of Server.ProbeMethod.
const probeAnswer = "kitexproxy is ready"

// ProbeAnswer is what answers a call of Probe's method, on any transport.
func ProbeAnswer() *stream.Trailer {
	return &stream.Trailer{Status: stream.Status{Code: stream.Unimplemented, Message: probeAnswer}}
}

// Probe makes a call of method, a Server.ProbeMethod, to a listener and returns
// nil if that server answered. It shows that the port accepts calls, and that
// the Kitex behind it is one that this package can work with.
func Probe(ctx context.Context, listener upstream.Peer, method string) error {
	c, err := connect(ctx, listener, &Options{MaxHeaderList: probeHeaders}, unheard{})
	if err != nil {
		return err
	}
	defer func() { _ = c.tr.Close(errProbeOver) }()
	s, err := c.tr.NewStream(ctx, &grpc.CallHdr{Host: listener.Address, Method: method})
	if err != nil {
		return err
	}
	if _, err := s.Header(); err != nil && s.Status() == nil {
		return err
	}
	<-s.Done()
	if got := s.Status().Message(); got != probeAnswer {
		return fmt.Errorf("the listener answered %q", got)
	}
	return nil
}

// unheard is for a connection that is used once: what becomes of it shows.
type unheard struct{}

func (unheard) Retired()    {}
func (unheard) Limit(int64) {}
func (unheard) Closed()     {}

// probeHeaders is ample for the answer to a probe.
const probeHeaders = 64 << 10

var errProbeOver = fmt.Errorf("probe over")
