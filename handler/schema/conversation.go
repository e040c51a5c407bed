package schema

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// conversation is a call of server reflection: questions, each with its answer.
// It is for one goroutine.
type conversation struct {
	out    stream.Outbound
	abort  func() // lets go of out; may be called more than once, and from anywhere
	left   int    // bytes of answers that may still come
	limit  int    // bytes of answers in all
	begun  bool
	prefix [stream.PrefixLen]byte
}

// openConversation opens the call. It needs close in the end.
func openConversation(ctx context.Context, open Opener, method string, limit int) (*conversation, error) {
	out, err := open(ctx, &stream.Request{Method: method, ContentType: "application/grpc"})
	if err != nil {
		return nil, err
	}
	return &conversation{out: out, abort: sync.OnceFunc(out.Abort), left: limit, limit: limit}, nil
}

// close lets go of the call.
func (c *conversation) close() { c.abort() }

// finish ends the call in good order, so that the backend does not count it as
// cancelled. It has little time for that.
func (c *conversation) finish() {
	_ = c.out.Write(nil, true) // if that fails, there is nothing to end
	c.out.Flush()
	late := time.AfterFunc(finishTimeout, c.abort) // ends reading
	defer late.Stop()
	_ = c.out.Read(c.prefix[:]) // whatever comes, nothing more is asked
}

const finishTimeout = time.Second

// ask returns the answer to a question. The error is an *endedError, a
// *stream.Failure, or says what is wrong with the answer.
func (c *conversation) ask(question *reflection.ServerReflectionRequest) (*reflection.ServerReflectionResponse, error) {
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, stream.PrefixLen), question)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-stream.PrefixLen))
	_ = c.out.Write(b, false) // if that fails, reading says why
	c.out.Flush()
	if err := c.begin(); err != nil {
		return nil, err
	}
	b, err = c.read()
	if err != nil {
		return nil, err
	}
	answer := new(reflection.ServerReflectionResponse)
	if err := proto.Unmarshal(b, answer); err != nil {
		return nil, fmt.Errorf("the backend's answer is no ServerReflectionResponse: %w", err)
	}
	return answer, nil
}

// begin waits for the headers of the response.
func (c *conversation) begin() error {
	if c.begun {
		return nil
	}
	c.begun = true
	_, err := c.out.Header()
	return err
}

// read returns the next message.
func (c *conversation) read() ([]byte, error) {
	err := c.out.Read(c.prefix[:])
	switch {
	case errors.Is(err, io.EOF):
		return nil, &endedError{c.out.Trailer().Status}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errTruncated
	case err != nil:
		return nil, err
	}
	if c.prefix[0] != 0 {
		return nil, errors.New("the backend's answer is compressed, which it was not asked to be")
	}
	length := binary.BigEndian.Uint32(c.prefix[1:])
	if int64(length) > int64(c.left) {
		return nil, fmt.Errorf("the backend's answers are longer than %d bytes", c.limit)
	}
	c.left -= int(length)
	return c.readMessage(int(length))
}

var errTruncated = errors.New("the backend's answer ends inside a message")

// readMessage reads n bytes, for which it reserves memory as they come.
func (c *conversation) readMessage(n int) ([]byte, error) {
	const piece = 64 << 10
	var b []byte
	for len(b) < n {
		had := len(b)
		b = slices.Grow(b, min(n-had, piece))
		b = b[:min(n, cap(b))]
		err := c.out.Read(b[had:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errTruncated
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// endedError is how a backend has ended the call before it was done.
type endedError struct{ status stream.Status }

func (e *endedError) Error() string {
	return fmt.Sprintf("the backend ends the call with %v: %s", e.status.Code, clip(e.status.Message))
}
