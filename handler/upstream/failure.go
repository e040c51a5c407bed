package upstream

import (
	"errors"
	"fmt"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// ErrNotTaken is what Pool.Open's function returns when the connection has not
// taken the stream for reasons of its own: it has begun to drain, say. Nothing
// of the stream may have been sent.
var ErrNotTaken = errors.New("the connection takes no stream")

var (
	errPoolClosed     = errors.New("the proxy is shutting down")
	errForgotten      = errors.New("the instance has gone")
	errOverloaded     = errors.New("too many calls wait for a connection (limits.pending of the cluster)")
	errRetired        = errors.New("the connection went away as it was opened")
	errStuck          = errors.New("the backend's answer could not be read")
	errConnectTimeout = errors.New("timed out (timeouts.connect)")
)

// Unreachable is the end of a call that could not be sent to an instance,
// because of err. It is marked unprocessed.
func Unreachable(cluster, address string, err error) *stream.Failure {
	return &stream.Failure{
		Reason: stream.BackendUnreachable, Code: stream.Unavailable, Unprocessed: true,
		Message: fmt.Sprintf("cluster %q: instance %s: %v", cluster, address, err),
	}
}

// failureOf is the end of a call that the pool has no connection for, because of
// err.
func failureOf(cluster, address string, err error) *stream.Failure {
	f := Unreachable(cluster, address, err)
	if errors.Is(err, errOverloaded) {
		f.Reason = stream.Overloaded
	}
	return f
}
