package handlertest

import (
	"io"

	"github.com/cloudwego/kitex/pkg/klog"
	"go.uber.org/goleak"
)

// QuietKitex silences Kitex's log, which has a line for every server, for
// every connection that ends and for every call that fails. It is for
// TestMain.
func QuietKitex() { klog.SetOutput(io.Discard) }

// LeakOptions are the goroutines that Kitex and netpoll start once, or once
// for each client, and never end. Everything else is a leak: among it
// Kitex's waiting for SIGINT, which every server does that is not given
// server.WithExitSignal.
func LeakOptions() []goleak.Option {
	const kitex = "github.com/cloudwego/kitex/"
	return []goleak.Option{
		// The event loops of netpoll, one for some processors, shared by all
		// its connections of the process.
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		// Makes streams in advance for all gRPC clients of the process.
		goleak.IgnoreTopFunction(kitex + "pkg/remote/trans/nphttp2/grpc.preallocateForStream"),
		// The one clock of the process for periodic tasks.
		goleak.IgnoreTopFunction(kitex + "pkg/utils.(*SharedTicker).Tick"),
		// Kitex's clients run unary calls that have a deadline in workers of
		// a pool shared by the process, which end after a minute without work.
		goleak.IgnoreTopFunction(kitex + "client.(*timeoutPool).createWorker.func1"),
		goleak.IgnoreTopFunction(kitex + "client.(*timeoutPool).createTicker.func1"),
		// One for each client that was made with addresses of its own. It
		// goes on after the client is gone.
		goleak.IgnoreTopFunction(kitex + "pkg/loadbalance/lbcache.(*BalancerFactory).watcher"),
	}
}
