package function

import (
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/openfaas/faas-provider/types"
)

// NewHandlerFunc returns a handler of /function/NAME and what is below it, for a
// program that is an OpenFaaS provider. It panics if resolver is nil. A nil logger is
// hclog.Default().
//
// It takes DELETE, GET, HEAD, OPTIONS, PATCH, POST and PUT. Calls that are not streams
// are ended after config's ReadTimeout, 10 s if there is none. X-Forwarded-Host and
// X-Forwarded-For are set to the request's host and the client's address, port
// included, unless the request has them already: whoever can reach the handler can say
// anything there. Errors are logged, and at level info how long each call took.
//
// What the handler answers by itself has the header "X-OpenFaaS-Internal: proxy":
// status 400 if the name is missing or the path is one that is not passed on, 405 for
// other methods, 414 for a name too long, 503 if the resolver has no URL, and 500 if
// that URL is none, or there is no answer from there.
func NewHandlerFunc(config types.FaaSConfig, resolver BaseURLResolver, logger hclog.Logger) http.HandlerFunc {
	if resolver == nil {
		panic("function: NewHandlerFunc needs a resolver, which is nil")
	}
	if logger == nil {
		logger = hclog.Default()
	}
	h := New(Options{
		Resolver: resolver, Timeout: config.GetReadTimeout(),
		MaxIdleConns: config.GetMaxIdleConns(), MaxIdleConnsPerHost: config.GetMaxIdleConnsPerHost(),
	})
	h.forward = forwardIfAbsent
	h.statusOf = func(error) int { return http.StatusServiceUnavailable }
	h.log = newLimited(logger)
	h.logTime = func(name string, status int, took time.Duration) {
		logger.Info("function called", "function", name, "status", status, "took", took)
	}
	return h.ServeHTTP
}
