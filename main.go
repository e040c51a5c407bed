// Command kitexproxy is a transparent gRPC proxy on Kitex. Started without
// arguments it runs with a demo backend; kitexproxy --help lists the rest.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/cli"
)

// services are those whose messages filters may look into. Add yours; each is
// what `go tool kitex` generates from its .proto file.
func services() []*filter.Service {
	return []*filter.Service{
		filter.KitexService(echo.NewServiceInfo()),
	}
}

// filters look into the calls of methods whose route has mode: struct. Add yours,
// in the order in which they are to be asked. The README (A filter in Go) has the
// one below.
func filters() []*filter.Filter {
	return []*filter.Filter{
		// unary.OnRequest(hidePasswords),
	}
}

// interceptors are around all calls, the first outermost, whatever their mode. Add
// yours. The README (An interceptor in Go) has the one below.
func interceptors() []intercept.Interceptor {
	return []intercept.Interceptor{
		// needTenant,
	}
}

func main() {
	cli.TuneProcess()
	ctx, stop := context.WithCancel(context.Background())
	stopOnSignals(stop)
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr,
		proxy.WithServices(services()...), proxy.WithFilters(filters()...), proxy.WithInterceptors(interceptors()...)))
}

// stopOnSignals calls stop with the first signal, which makes the proxy drain,
// and ends the process with the second.
func stopOnSignals(stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		stop()
		<-signals
		os.Exit(1)
	}()
}
