package function

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

var (
	errPanicked   = errors.New("the handler panicked")
	errNoUpgrade  = errors.New("the function switched protocols without being asked to")
	errClientGone = fmt.Errorf("%w: it is gone", ErrClient)
)

// call is one call on its way.
type call struct {
	h       *Handler
	w       http.ResponseWriter
	r       *http.Request
	name    string
	sub     subPath
	streams bool            // it has no timeout, and goes on piece by piece
	ctx     context.Context // the client's, cut short by the timeout

	target Target
	url    *url.URL     // what is asked for
	body   *requestBody // nil for a request without one

	status  int   // what the function answered with, 0 for nothing yet
	replied int   // what the proxy answered with in its place, 0 for nothing
	err     error // why the response is not whole
	over    bool  // the handler returns, and does not panic
}

// serve carries the call from its beginning to its end.
func (c *call) serve() {
	begun := time.Now()
	defer func() { c.h.logTime(c.name, max(c.status, c.replied), time.Since(begun)) }()
	cancel := c.limitTime()
	defer cancel()
	var err error
	if c.target, err = c.pick(); err != nil {
		c.unresolved(err)
		return
	}
	defer c.done()
	switch {
	case !c.locate():
	case c.target.Handler != nil:
		c.serveHere()
	case c.streams:
		c.passStream()
	default:
		c.pass()
	}
	c.releaseBody()
	c.over = true
}

// limitTime begins the time that the call may take. What it returns ends the context.
func (c *call) limitTime() context.CancelFunc {
	if c.streams || c.h.timeout == 0 {
		c.ctx = c.r.Context()
		return func() {}
	}
	ctx, cancel := context.WithTimeoutCause(c.r.Context(), c.h.timeout, c.h.errTimeout)
	c.ctx = ctx
	return cancel
}

// done tells the target how the call went.
func (c *call) done() {
	if c.target.Done == nil {
		return
	}
	if !c.over && c.err == nil {
		c.err = errPanicked
	}
	c.target.Done(c.status, c.err)
}

// unresolved answers a call of a function that is nowhere.
func (c *call) unresolved(err error) {
	c.h.log.Error("no endpoints for function", "function", c.name, "error", err)
	status := c.h.statusOf(err)
	if status == http.StatusServiceUnavailable {
		c.reply(status, "No endpoints available for: %s.")
		return
	}
	c.reply(status, http.StatusText(status)+": %s.")
}

// locate finds out what to ask for. It answers the call if there is no saying.
func (c *call) locate() bool {
	base := c.target.URL
	if c.target.Handler != nil {
		c.err = checkBasePath(base.Path)
		base = url.URL{Path: base.Path, RawPath: base.RawPath}
	} else {
		c.err = checkBase(&base)
	}
	if c.err != nil {
		c.h.log.Error("no URL for function", "function", c.name, "error", c.err)
		c.reply(http.StatusInternalServerError, "Failed to resolve service: %s.")
		return false
	}
	c.url = under(&base, c.sub, c.r.URL)
	return true
}

// fail answers a call whose function has not answered.
func (c *call) fail(err error) {
	c.err = c.blame(err)
	if errors.Is(c.err, ErrClient) {
		c.h.log.Debug("call of function ended by its client", "function", c.name, "error", c.err)
	} else {
		asked := c.url.Scheme + "://" + c.url.Host + c.url.EscapedPath() // queries may have secrets in them
		c.h.log.Error("function not reached", "function", c.name, "url", asked, "error", c.err)
	}
	c.reply(c.statusFor(c.err), "Can't reach service for: %s.")
}

// statusFor returns the status for a call that failed with an error.
func (c *call) statusFor(err error) int {
	var tooLarge *http.MaxBytesError
	switch {
	case !c.h.gatewayErrors:
		return http.StatusInternalServerError
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrClient):
		return http.StatusBadRequest
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// blame says whose doing an error is, as Target.Done promises.
func (c *call) blame(err error) error {
	var timeout net.Error
	switch broken := c.body.broken(); {
	case errors.Is(err, ErrClient):
		return err
	case broken != nil:
		return fmt.Errorf("%w: its request broke off: %w", ErrClient, broken)
	case errors.Is(c.r.Context().Err(), context.Canceled):
		return whoCanceled(c.r.Context())
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	case errors.As(err, &timeout) && timeout.Timeout() && !errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	}
	return err
}

// whoCanceled returns the cause that a server has given, or else that the client is gone.
func whoCanceled(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return errClientGone
}

// breakOff ends a call whose response cannot be completed, so that the client does not
// take it for whole.
func (c *call) breakOff(err error) {
	c.err = c.blame(err)
	if !errors.Is(c.err, ErrClient) {
		c.h.log.Error("response of function broke off", "function", c.name, "error", c.err)
	}
	panic(http.ErrAbortHandler)
}

// reply answers in place of the function. text has one verb, for its name.
func (c *call) reply(status int, text string) {
	c.replied = status
	c.closeIfOutlived()
	reply(c.w, status, fmt.Sprintf(text, c.name))
}
