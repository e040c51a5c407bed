package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/demo"
)

// try runs the built-in configuration with the demo backend behind it.
func (a *app) try(ctx context.Context, f *flags) error {
	cfg, err := a.load(ctx, "")
	if err != nil {
		return err
	}
	if err := f.apply(cfg); err != nil {
		return err
	}
	logger := newLogger(a.stderr, cfg.Log, new(slog.LevelVar))
	routeLogs(logger)
	backend, err := startDemoBackend(cfg, f.demoBackend)
	if err != nil {
		return err
	}
	defer backend.Stop()
	return a.run(ctx, cfg, logger, func(p *proxy.Proxy) { a.printCalls(p, backend.Addr()) })
}

// startDemoBackend starts the demo backend where the configuration expects it,
// or at another address and tells the configuration.
func startDemoBackend(cfg *conf.Config, address string) (*demo.Backend, error) {
	cluster := cfg.Clusters[cfg.Default.Cluster]
	if address == "" {
		address = cluster.Instances[0]
	}
	backend, err := demo.StartBackend(address)
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address with --demo-backend", err)
	}
	cluster.Instances = []string{backend.Addr()}
	return backend, nil
}

const grpcurl = "go run github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 -plaintext"

// printCalls says what runs and which calls can be made.
func (a *app) printCalls(p *proxy.Proxy, backend string) {
	fmt.Fprintf(a.stdout, `kitexproxy takes calls at %[1]s and sends them to its demo backend at %[2]s.

Try in another terminal:

  # all kinds of calls, and what they look like on the wire
  %[3]s demo --proxy %[1]s

  # a unary call, and a server stream, with grpcurl
  %[4]s -d '{"message":"hello"}' %[1]s kitexproxy.echo.v1.Echo/Unary
  %[4]s -d '{"message":"again","count":5}' %[1]s kitexproxy.echo.v1.Echo/Expand

  # the same in JSON, the stream as Server-Sent Events
  curl -d '{"message":"hello"}' http://%[5]s/kitexproxy.echo.v1.Echo/Unary
  curl -N -H 'Accept: text/event-stream' -d '{"message":"again","count":5}' http://%[5]s/kitexproxy.echo.v1.Echo/Expand

  # as a function
  curl -d '{"message":"hello"}' http://%[5]s/function/echo

  # what has been counted
  curl http://%[6]s/metrics

Ctrl-C stops it.
`, conf.FormatAddress(p.Addrs()[0]), backend, program(), grpcurl, p.HTTPAddrs()[0], p.AdminAddr())
}

// program returns how to start this program again from the same directory.
func program() string {
	path, err := os.Executable()
	// What "go run" builds is in a directory of the build cache.
	if err != nil || strings.Contains(path, "go-build") {
		return "go run ."
	}
	return path
}
