// Command kitexproxy is a transparent gRPC proxy on Kitex. Started without
// arguments it runs with a demo backend; kitexproxy --help lists the rest.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kitexproxy/kitexproxy/proxy/cli"
)

func main() {
	cli.TuneProcess()
	ctx, stop := context.WithCancel(context.Background())
	stopOnSignals(stop)
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
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
