package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/demo"
)

// try runs the built-in configuration with the demo backend behind it.
func (a *app) try(ctx context.Context, f *flags) error {
	cfg, err := load(ctx, "")
	if err != nil {
		return err
	}
	if err := f.apply(cfg); err != nil {
		return err
	}
	logger := newLogger(a.stderr, cfg.Log, new(slog.LevelVar))
	routeKitexLogs(logger)
	backend, err := startDemoBackend(cfg, f.demoBackend)
	if err != nil {
		return err
	}
	defer backend.Stop()
	return a.run(ctx, cfg, logger, func(p *proxy.Proxy) { a.printCalls(p.Addrs(), backend.Addr()) })
}

// startDemoBackend starts the demo backend where the configuration expects it,
// or at another address and tells the configuration.
func startDemoBackend(cfg *conf.Config, address string) (*demo.Backend, error) {
	if address == "" {
		address = cfg.Clusters[cfg.Default.Cluster].Instances[0]
	}
	backend, err := demo.StartBackend(address)
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address with --demo-backend", err)
	}
	setBackend(cfg, backend.Addr())
	return backend, nil
}

const grpcurl = "go run github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 -plaintext -import-path idl -proto echo.proto"

// printCalls says what runs and which calls can be made.
func (a *app) printCalls(addrs []net.Addr, backend string) {
	at := conf.FormatAddress(addrs[0])
	fmt.Fprintf(a.stdout, `kitexproxy takes calls at %[1]s and sends them to its demo backend at %[2]s.

Try in another terminal%[3]s:

  # all kinds of calls, and what they look like on the wire
  %[4]s demo --proxy %[1]s

  # a unary call with grpcurl
  %[5]s -d '{"message":"hello"}' %[1]s kitexproxy.echo.v1.Echo/Unary

  # a server-streaming call with grpcurl
  %[5]s -d '{"message":"again","count":5}' %[1]s kitexproxy.echo.v1.Echo/Expand

Ctrl-C stops it.
`, at, backend, where(), program(), grpcurl)
}

// where says in which directory the calls work, if not in this one: grpcurl
// needs the .proto file.
func where() string {
	if _, err := os.Stat(filepath.Join("idl", "echo.proto")); errors.Is(err, os.ErrNotExist) {
		return ", in the directory with the source code"
	}
	return ""
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
