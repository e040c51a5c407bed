package health

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

const method = "/grpc.health.v1.Health/Check"

// maxAnswer is the longest answer in bytes that is looked at. One has two, if it
// says no more than it should.
const maxAnswer = 1 << 10

// question returns the request's message with its prefix.
func question(service string) []byte {
	m := &grpc_health_v1.HealthCheckRequest{Service: strings.ToValidUTF8(service, "\uFFFD")}
	b, _ := proto.MarshalOptions{}.MarshalAppend(make([]byte, stream.PrefixLen), m) // fails for other strings only
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-stream.PrefixLen))
	return b
}

// askOnce asks an instance. The error says why it is not healthy.
func (c *Checker) askOnce(ctx context.Context, address string) error {
	timeout := time.Duration(c.opts.Config.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	answer, err := c.call(ctx, address)
	switch {
	case hasNoService(err):
		c.warn(address)
		return nil
	case ctx.Err() != nil && err != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
		return fmt.Errorf("the instance says it is %v", answer.GetStatus())
	default:
		return nil
	}
}

// warn says, once, that there is nothing to learn.
func (c *Checker) warn(address string) {
	c.without.Do(func() {
		c.opts.Logger.Warn("a backend instance has no health service, and so counts as healthy; others may be the same",
			"cluster", c.opts.Cluster.Name(), "instance", address)
	})
}

// call returns the answer of an instance. The error is an *endedError, a
// *stream.Failure, or says what is wrong with the answer.
func (c *Checker) call(ctx context.Context, address string) (*grpc_health_v1.HealthCheckResponse, error) {
	out, err := c.opts.Open(ctx, address, &stream.Request{Method: method, ContentType: "application/grpc"})
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	_ = out.Write(c.question, true) // if that fails, Header says why, which also flushes
	if _, err := out.Header(); err != nil {
		return nil, err
	}
	message, err := readMessage(out)
	if err != nil {
		return nil, err
	}
	if err := readEnd(out); err != nil {
		return nil, err
	}
	answer := new(grpc_health_v1.HealthCheckResponse)
	if err := proto.Unmarshal(message, answer); err != nil {
		return nil, fmt.Errorf("the answer is no HealthCheckResponse: %w", err)
	}
	return answer, nil
}

// readMessage returns the only message of the response.
func readMessage(out stream.Outbound) ([]byte, error) {
	var prefix [stream.PrefixLen]byte
	if err := out.Read(prefix[:]); errors.Is(err, io.EOF) {
		return nil, &endedError{out.Trailer().Status}
	} else if err != nil {
		return nil, err
	}
	if prefix[0] != 0 {
		return nil, errors.New("the answer is compressed, which it was not asked to be")
	}
	length := binary.BigEndian.Uint32(prefix[1:])
	if length > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	b := make([]byte, length)
	if err := out.Read(b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("the answer ends inside a message")
	} else if err != nil {
		return nil, err
	}
	return b, nil
}

// readEnd returns an error unless the response ends with OK, and with nothing more.
func readEnd(out stream.Outbound) error {
	err := out.Read(make([]byte, 1))
	switch {
	case err == nil:
		return errors.New("the answer has more than one message")
	case !errors.Is(err, io.EOF):
		return err
	case out.Trailer().Status.Code != stream.OK:
		return &endedError{out.Trailer().Status}
	default:
		return nil
	}
}

// hasNoService reports whether err says that a backend does not have the health
// service: by its status, or by an HTTP status that stands for that.
func hasNoService(err error) bool {
	var ended *endedError
	if errors.As(err, &ended) {
		// Kitex servers have codes of their own for services they do not know.
		return ended.status.Code == stream.Unimplemented || ended.status.Code > stream.Unauthenticated
	}
	var failure *stream.Failure
	return errors.As(err, &failure) && failure.Code == stream.Unimplemented
}

// endedError is a status that an instance answers with.
type endedError struct{ status stream.Status }

func (e *endedError) Error() string {
	const enough = 200 // bytes of a message that the backend chooses
	message := e.status.Message
	if len(message) > enough {
		message = message[:enough] + "..."
	}
	return fmt.Sprintf("the instance answers %v: %s", e.status.Code, message)
}
