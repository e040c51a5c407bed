package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/streaming"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// callTimeout bounds each call of the demo, so that a proxy that loses
// something cannot make it hang.
const callTimeout = 10 * time.Second

// play makes the call of a scene and notes what happens.
func (c *echoClient) play(ctx context.Context, s scene) *record {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, s.metadata)
	r := newRecord()
	if c.watched != nil {
		c.watched.record.Store(r)
		defer c.watched.record.Store(nil)
	}
	r.metadata(toBackend, "metadata", s.metadata)
	var err error
	if s.method == unary {
		err = c.playUnary(ctx, s, r)
	} else {
		err = c.playStream(ctx, s, r)
	}
	r.ended(err)
	r.awaitBackend(ctx)
	if c.log != nil {
		r.got.logged = c.log.next(ctx)
	}
	return r
}

func (c *echoClient) playUnary(ctx context.Context, s scene, r *record) error {
	var header, trailer metadata.MD
	ctx = nphttp2.GRPCTrailer(nphttp2.GRPCHeader(ctx, &header), &trailer)
	r.request(s.requests[0])
	reply, err := c.unary.Unary(ctx, s.requests[0])
	r.header(header)
	if err == nil {
		r.reply(reply)
	}
	r.trailer(trailer)
	return err
}

// playStream makes a call of one of the other kinds. A failure to send is no
// news: why the call has ended is what receiving tells.
func (c *echoClient) playStream(ctx context.Context, s scene, r *record) error {
	stream, err := c.open(ctx, s, r)
	if err != nil {
		return err
	}
	switch s.method {
	case collect:
		for _, req := range s.requests {
			_ = send(stream, req, r)
		}
	case chat:
		if err := converse(stream, s.requests, r); err != nil {
			r.trailer(stream.Trailer())
			return err
		}
	}
	if s.method != expand { // where Kitex has closed it already
		_ = stream.Close() // always nil
	}
	err = receiveAll(stream, r)
	r.trailer(stream.Trailer())
	return err
}

// open begins a call. Expand's only request goes out with it.
func (c *echoClient) open(ctx context.Context, s scene, r *record) (streaming.Stream, error) {
	switch s.method {
	case collect:
		return c.stream.Collect(ctx)
	case expand:
		r.request(s.requests[0])
		return c.stream.Expand(ctx, s.requests[0])
	case chat:
		return c.stream.Chat(ctx)
	default:
		return nil, fmt.Errorf("demo: no method %q", s.method)
	}
}

// converse sends each request only when the one before has been answered.
func converse(stream streaming.Stream, requests []*echo.EchoRequest, r *record) error {
	for _, req := range requests {
		_ = send(stream, req, r)
		if err := receive(stream, r); err != nil {
			return err
		}
	}
	return nil
}

func send(stream streaming.Stream, req *echo.EchoRequest, r *record) error {
	r.request(req)
	return stream.SendMsg(req)
}

// receiveAll takes replies until the call ends; nil means with OK.
func receiveAll(stream streaming.Stream, r *record) error {
	for {
		err := receive(stream, r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func receive(stream streaming.Stream, r *record) error {
	if r.got.header == nil {
		header, err := stream.Header()
		if err != nil {
			return err
		}
		r.header(header)
	}
	reply := new(echo.EchoReply)
	if err := stream.RecvMsg(reply); err != nil {
		return err
	}
	r.reply(reply)
	return nil
}

// statusOf returns the status that a call's error stands for. An error that is
// none did not come over the wire.
func statusOf(err error) *status.Status {
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return status.Convert(err)
}
