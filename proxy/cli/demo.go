package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/kitexproxy/kitexproxy/proxy/demo"
)

func newDemo(a *app) *cobra.Command {
	var f flags
	var address string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make calls through the proxy and show what crosses the wire",
		Long: `demo makes a call of each kind, and one that fails, and prints what is sent and
received. Then it makes calls through filters in Go (mode: struct) and through
rules (mode: dynamic), that change one message, drop one and reject one call, and
prints what goes in and what comes out. At last an interceptor stops a call and
lets another one go on, and the access log has both. It exits with 0 if everything
arrived as it should.

It runs client, proxies and backend in this process. With --proxy it makes the
first calls only, through a proxy that already runs with a demo backend behind it
and changes nothing, such as "kitexproxy" without arguments.`,
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
	cfg, err := a.load(ctx, "")
	if err != nil {
		return err
	}
	if err := f.apply(cfg); err != nil {
		return err
	}
	logger := newLogger(a.stderr, cfg.Log, new(slog.LevelVar))
	routeLogs(logger)
	if address == "" {
		// Without filters of the program: what the demo's own do is known.
		return demo.Run(ctx, a.stdout, logger)
	}
	if _, err := fmt.Fprintf(a.stdout, `client -> proxy at %s -> demo backend
Without --proxy there are calls with filters, rules and an interceptor, too.

`, address); err != nil {
		return err
	}
	return demo.Play(ctx, a.stdout, address)
}
