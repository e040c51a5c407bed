package function

import (
	"errors"
	"net/http"
	"net/url"
)

// BaseURLResolver says where functions are. It is called once per call, concurrently.
type BaseURLResolver interface {
	// Resolve returns the URL that the calls of a function go to or below: http or
	// https, a host, a port if it is not 8080, and perhaps a path. An error means that
	// there is no such function, or none that could answer, and gets status 503. A
	// handler of New lets an error that has a method HTTPStatus() int, in itself or in
	// what it wraps, say the status (400 to 599).
	Resolve(functionName string) (url.URL, error)
}

// Picker is what a BaseURLResolver implements as well if it wants to choose for each
// call, and be told how the call went. Resolve is not called then.
type Picker interface {
	// Pick returns where one call goes. r is the client's request, which is read-only;
	// its context is cut short by the handler's timeout if the call has one. Errors are
	// as those of Resolve.
	Pick(r *http.Request, functionName string) (Target, error)
}

// Target is where one call goes.
type Target struct {
	// URL is as Resolve returns it. If there is a Handler, only its path counts.
	URL url.URL
	// Handler answers in this process, if it is not nil. It gets the request with
	// the function's path in place of the client's, "/" at least, and has the whole
	// response to itself.
	Handler http.Handler
	// Done is told how the call went, if it is not nil: exactly once for a Pick
	// without an error, before the handler returns or panics. status is what the
	// function answered with, 0 if it did not. err is nil if the response has been
	// passed on whole. Otherwise it wraps ErrClient if that is the client's doing
	// and says nothing of the function, and context.DeadlineExceeded if the timeout
	// has passed.
	Done func(status int, err error)
}

// ErrClient is in the errors of calls that the client has ended: it went away, or its
// request broke off.
var ErrClient = errors.New("the client ended the call")

// pick asks the resolver, in the better of the ways it knows.
func (c *call) pick() (Target, error) {
	if c.h.picker != nil {
		return c.h.picker.Pick(c.r.WithContext(c.ctx), c.name)
	}
	base, err := c.h.resolver.Resolve(c.name)
	return Target{URL: base}, err
}

// statusOf returns the HTTP status that a resolver's error asks for, 503 if none.
func statusOf(err error) int {
	var with interface{ HTTPStatus() int }
	if errors.As(err, &with) {
		if status := with.HTTPStatus(); status >= 400 && status <= 599 {
			return status
		}
	}
	return http.StatusServiceUnavailable
}
