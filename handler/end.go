package handler

import (
	"context"
	"errors"
	"fmt"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// failure says how a call ends that err broke off. Where the call's context
// has ended, that is why, whatever err the streams made of it.
func (c *call) failure(err error) *stream.Failure {
	var f *stream.Failure
	switch {
	case c.ctx.Err() == nil:
		return stream.AsFailure(err)
	case errors.As(context.Cause(c.ctx), &f):
		return f
	case errors.Is(c.in.Context().Err(), context.DeadlineExceeded):
		return &stream.Failure{
			Reason: stream.DeadlinePassed, Code: stream.DeadlineExceeded,
			Message: fmt.Sprintf("deadline exceeded before cluster %q had answered", c.target.Cluster.Name),
		}
	default:
		return &stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled, Message: "cancelled by the client"}
	}
}

func failNoRoute(method string) *stream.Failure {
	return &stream.Failure{
		Reason: stream.NoRoute, Code: stream.Unimplemented,
		Message: fmt.Sprintf("no route for method %s", method),
	}
}

func failRouteTimeout(t *resolver.Target) *stream.Failure {
	return &stream.Failure{
		Reason: stream.RouteTimeout, Code: stream.DeadlineExceeded,
		Message: fmt.Sprintf("the call took longer than its route to cluster %q allows (%v)", t.Cluster.Name, t.Timeout),
	}
}

func failShutdown() *stream.Failure {
	return &stream.Failure{
		Reason: stream.Shutdown, Code: stream.Unavailable,
		Message: "the proxy is shutting down",
	}
}
