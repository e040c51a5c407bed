package inproc

import (
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// clientStream is a call that is not unary, as who makes it sees it.
type clientStream struct {
	conn *Conn
	call *call
	desc *grpc.StreamDesc
	opts callOptions

	started    sync.Once
	sendClosed bool // of SendMsg and CloseSend

	buf      []byte // of RecvMsg: what has come and not been received
	received error  // and why there is no more

	mu      sync.Mutex
	ended   bool
	unwatch func() bool
}

var _ grpc.ClientStream = (*clientStream)(nil)

// watch has the call end with ctx.
func (s *clientStream) watch(ctx context.Context) {
	s.mu.Lock() // which the function waits for
	defer s.mu.Unlock()
	s.unwatch = context.AfterFunc(ctx, func() { s.end(status.FromContextError(ctx.Err()).Err()) })
}

// start has the call carried. One that has a single request message starts when
// that is there: its request is complete then.
func (s *clientStream) start() {
	s.started.Do(func() {
		go s.conn.run(s.call) // ends with the call
	})
}

func (s *clientStream) Context() context.Context { return s.call.ctx }

// SendMsg sends a message. io.EOF means that the call has ended; how is RecvMsg's
// to say.
func (s *clientStream) SendMsg(m any) error {
	if s.sendClosed {
		return status.Error(codes.Internal, "a message is sent after the half-close")
	}
	frame, err := encode(m, s.opts.maxSend)
	if err != nil {
		s.end(err)
		return err
	}
	if s.desc.ClientStreams {
		return s.call.request.put(frame)
	}
	s.sendClosed = true
	s.call.request.fill(frame)
	s.start()
	return nil
}

func (s *clientStream) CloseSend() error {
	s.sendClosed = true
	s.call.request.halfClose()
	s.start()
	return nil
}

// Header waits for the headers. There are none, and no error, for a call that ends
// without: RecvMsg says how.
func (s *clientStream) Header() (metadata.MD, error) {
	s.start()
	if h := s.call.response.awaitHeader(); h != nil {
		return incoming(h.Metadata), nil
	}
	return nil, nil
}

func (s *clientStream) Trailer() metadata.MD {
	_, trailer := s.call.response.metadata()
	return trailer
}

func (s *clientStream) RecvMsg(m any) error {
	if s.received != nil {
		return s.received
	}
	s.start()
	err := s.receive(m)
	if err != nil || !s.desc.ServerStreams {
		s.end(err)
	}
	switch {
	case err != nil:
		s.received = err
	case !s.desc.ServerStreams:
		s.received = io.EOF
	}
	return err
}

// receive receives the next message, or the only one and the status behind it.
func (s *clientStream) receive(m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return errNoMessage(m)
	}
	f, err := s.next()
	if err == io.EOF && !s.desc.ServerStreams {
		return errNoMessageCame
	}
	if err != nil {
		return err
	}
	if err := f.decode(message, s.call.response.encoding(), s.opts.maxReceive); err != nil || s.desc.ServerStreams {
		return err
	}
	switch _, err := s.next(); err {
	case io.EOF:
		return nil
	case nil:
		return errSecondMessage
	default:
		return err
	}
}

// next waits for the next message. The error is io.EOF when the call has ended
// with OK.
func (s *clientStream) next() (frame, error) {
	for {
		f, rest, err := cut(s.buf, s.opts.maxReceive)
		s.buf = rest
		if err != nil || f != nil {
			return f, err
		}
		more, err := s.call.response.take()
		switch {
		case err == io.EOF:
			return nil, s.last()
		case err != nil:
			return nil, err
		}
		s.buf = join(s.buf, more)
	}
}

// last returns what follows the last message.
func (s *clientStream) last() error {
	switch err := s.call.response.end(); {
	case err != nil:
		return err
	case len(s.buf) > 0:
		return errTruncated
	}
	return io.EOF
}

// end ends the call for the client, with io.EOF or nil for OK. Only the first call
// has an effect; all return when what is wanted of the call has been told.
func (s *clientStream) end(err error) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended = true
	s.unwatch()
	s.opts.fill(s.call)
	if err == nil {
		err = io.EOF
	}
	s.call.giveUp(err)
	s.mu.Unlock()
	if err == io.EOF {
		err = nil
	}
	s.opts.finished(err)
}
