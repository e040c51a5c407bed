package cli

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy/demo"
)

func newDemo(a *app) *cobra.Command {
	var f flags
	var address string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make calls through the proxy and show what crosses the wire",
		Long: `demo makes a call of each kind, and one that fails, and prints what is sent and
received. It exits with 0 if everything arrived as it was sent.

It runs client, proxy and backend in this process, or uses a proxy that already
runs with a demo backend behind it, such as "kitexproxy" without arguments.`,
		Example: `  # everything in one process
  kitexproxy demo

  # through a proxy that runs
  kitexproxy demo --proxy 127.0.0.1:8888`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.demo(cmd.Context(), &f, address)
			if errors.Is(err, context.Canceled) {
				return errors.New("interrupted")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&address, "proxy", "", "`address` of a proxy that runs")
	// The call that fails is an error to Kitex's server.
	f.addLog(cmd, "error")
	return cmd
}

func (a *app) demo(ctx context.Context, f *flags, address string) error {
	cfg, err := load("")
	if err != nil {
		return err
	}
	f.listen = []string{"127.0.0.1:0"}
	if err := f.apply(cfg); err != nil {
		return err
	}
	if address != "" {
		routeKitexLogs(newLogger(a.stderr, cfg.Log))
		return a.play(ctx, address, "")
	}
	return a.demoInProcess(ctx, cfg)
}

// demoInProcess runs the backend, before it the proxy, and plays.
func (a *app) demoInProcess(ctx context.Context, cfg *conf.Config) error {
	logger := newLogger(a.stderr, cfg.Log)
	routeKitexLogs(logger)
	backend, err := startDemoBackend(cfg, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer backend.Stop()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var played error
	err = a.runProxy(ctx, cfg, logger, func(addrs []net.Addr) {
		played = a.play(ctx, conf.FormatAddress(addrs[0]), " at "+backend.Addr())
		stop()
	})
	return errors.Join(played, err)
}

func (a *app) play(ctx context.Context, address, backend string) error {
	if _, err := fmt.Fprintf(a.stdout, "client -> proxy at %s -> demo backend%s\n\n", address, backend); err != nil {
		return err
	}
	return demo.Play(ctx, a.stdout, address)
}
