package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// abort ends c with t, from any goroutine, unless it is decided already how c
// ends. That ends its context, and the wait of whoever writes the response. If c
// ends anyway, only filters of the end and interceptors may be in the way: they are told
// to come back.
func (c *call) abort(t *stream.Trailer) {
	c.mu.Lock()
	first, finishing := !c.ending, c.ending && c.end == nil
	if first {
		c.ending, c.end = true, t
	}
	changed, in, interrupt := c.changeTrailer(t), c.in, c.interrupt
	c.mu.Unlock()
	if interrupt != nil {
		defer interrupt() // interceptors that wait for their next have been told by then
	}
	switch {
	case first:
		in.Finish(changed)
	case finishing && c.run != nil: // which is set before c finishes
		c.run.Interrupt()
	}
}

// exit ends c because of err, in a goroutine that ends as well and may be the one that
// would finish c.
func (c *call) exit(err error) {
	t := stream.AsFailure(err).Trailer()
	c.abort(t)
	c.mu.Lock()
	t = c.changeTrailer(t)
	c.mu.Unlock()
	c.in.Finish(t) // abort leaves that to a finish under way
}

// finish ends c with t, or as abort has done it, and lets the filters of the end
// know. Only the first call has an effect. It is for the goroutine of the call.
func (c *call) finish(t *stream.Trailer) {
	c.mu.Lock()
	again, aborted := c.ending, c.end
	c.ending, c.end = true, nil
	c.mu.Unlock()
	switch {
	case aborted != nil:
		t = aborted
	case again:
		return
	}
	if c.run != nil {
		t = c.run.End(c.ctx, t)
	}
	c.in.Finish(c.changeTrailer(t))
}

// answerWith notes that a filter of the request has ended the call. It reports false if
// the client is to have the rest of a message before that.
func (c *call) answerWith(e *filter.Ended) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = e
	return !c.inside
}

// endOf says how the call ends that err broke off. If a filter did so, the client
// gets what that has to say.
func (c *call) endOf(err error) *stream.Trailer {
	c.mu.Lock()
	byFilter, torn := c.answer, c.inside
	c.mu.Unlock()
	if torn || byFilter == nil && !errors.As(err, &byFilter) {
		return c.failure(err).Trailer()
	}
	if err := c.sendAnswer(byFilter); err != nil {
		return c.failure(err).Trailer()
	}
	return byFilter.Trailer
}

func (c *call) sendAnswer(e *filter.Ended) error {
	if !c.headed && len(e.Messages)+len(e.Header) > 0 {
		c.headed = true
		if err := c.in.WriteHeader(c.changeHeader(&stream.Header{Metadata: e.Header})); err != nil {
			return err
		}
	}
	for _, payload := range e.Messages {
		if err := c.in.Write(newFrame(0, payload)); err != nil {
			return err
		}
	}
	return nil
}

// failure says how a call ends that err broke off. Where the call's context
// has ended, that is why, whatever err the streams made of it. A backend that
// keeps the deadline as well may be heard of before that.
func (c *call) failure(err error) *stream.Failure {
	var f *stream.Failure
	client, ended := c.in.Context(), c.in.Context().Err()
	switch {
	case c.ctx.Err() == nil && !isLate(c.ctx):
		return stream.AsFailure(err)
	case errors.As(context.Cause(c.ctx), &f):
		return f
	case ended != nil && !errors.Is(ended, context.DeadlineExceeded):
		return stream.CanceledByClient
	case ended != nil || isLate(client):
		return &stream.Failure{
			Reason: stream.DeadlinePassed, Code: stream.DeadlineExceeded,
			Message: fmt.Sprintf("deadline exceeded before cluster %q had answered", c.target.Cluster.Name()),
		}
	default:
		return failRouteTimeout(c.target, c.target.Timeout)
	}
}

// isLate reports whether the deadline of ctx has passed, of which its end may
// still be under way.
func isLate(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

func failNoRoute(method string) *stream.Failure {
	f := &stream.Failure{
		Reason: stream.NoRoute, Code: stream.Unimplemented,
		Message: fmt.Sprintf("no route for method %s", method),
	}
	if !resolver.WellFormed(method) {
		f.Message = fmt.Sprintf("%q is no method name, which is like /package.Service/Method", method)
	}
	return f
}

func failNoCluster(method, name string) *stream.Failure {
	return &stream.Failure{
		Reason: stream.FilterFailed, Code: stream.Internal,
		Message: fmt.Sprintf("%s: a filter has chosen cluster %q, which is not configured", method, name),
	}
}

func failRouteTimeout(t *resolver.Target, limit time.Duration) *stream.Failure {
	return &stream.Failure{
		Reason: stream.RouteTimeout, Code: stream.DeadlineExceeded,
		Message: fmt.Sprintf("the call took longer than its route to cluster %q allows (%v)", t.Cluster.Name(), limit),
	}
}

func failAttemptTimeout(t *resolver.Target) *stream.Failure {
	return &stream.Failure{
		Reason: stream.RouteTimeout, Code: stream.DeadlineExceeded,
		Message: fmt.Sprintf("cluster %q: no response within the time of an attempt (%v)", t.Cluster.Name(), time.Duration(t.Retry.AttemptTimeout)),
	}
}

func failIdle(t *resolver.Target) *stream.Failure {
	return &stream.Failure{
		Reason: stream.RouteTimeout, Code: stream.DeadlineExceeded,
		Message: fmt.Sprintf("the call had no message for longer than its route to cluster %q allows (%v)", t.Cluster.Name(), t.IdleTimeout),
	}
}

func failShutdown() *stream.Failure {
	return &stream.Failure{
		Reason: stream.Shutdown, Code: stream.Unavailable,
		Message: "the proxy is shutting down",
	}
}
