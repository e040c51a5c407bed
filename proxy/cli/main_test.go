package cli_test

import (
	"context"
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/proxy/cli"
)

// TestMain fails if a test leaves a goroutine behind. Those ignored are Kitex's
// and netpoll's own: each is started once in a process, and never ends.
func TestMain(m *testing.M) {
	// Tests start Kitex servers of their own, and its logger must be set
	// before.
	cli.Main(context.Background(), []string{"version"}, io.Discard, io.Discard)
	goleak.VerifyTestMain(m,
		// Goroutines kept for the next task; TestWorkersRunEveryTaskAndKeepFew
		// makes some.
		goleak.IgnoreAnyFunction("github.com/kitexproxy/kitexproxy/proxy/cli.(*workers).work"),
		// The poller that all connections share.
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		// Streams allocated in advance, for all client connections.
		goleak.IgnoreTopFunction("github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc.preallocateForStream"),
		// The pool of goroutines that unary calls with a deadline run in.
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createTicker.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createWorker.func1"),
		// The cache of load balancers, and the clock that cleans it.
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/loadbalance/lbcache.(*BalancerFactory).watcher"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/utils.(*SharedTicker).Tick"),
	)
}
