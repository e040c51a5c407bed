package cli

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/spf13/cobra"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
)

func newServe(a *app) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `serve runs the proxy with a configuration file, or before one backend without
any. Flags beat the file. With --backend every call has mode: struct, so that
filters of the program are asked.

When the file changes, and on SIGHUP, it is read again, and calls that begin from
then on go by it; one that is not valid changes nothing. "kitexproxy diff" shows
beforehand what would change. SIGHUP also has the file of the access log opened anew.

It runs until SIGINT or SIGTERM. Then calls under way may finish, until the
shutdown timeout is over; a second signal ends it at once.`,
		Example: `  # every call to one backend
  kitexproxy serve --listen 127.0.0.1:8888 --backend 127.0.0.1:9000

  # with a file
  kitexproxy serve -c conf/proxy.yaml

  # with what etcd has, as other proxies do
  kitexproxy serve -c etcd://127.0.0.1:2379/kitexproxy/edge

  # with a file, but at other addresses
  kitexproxy serve -c conf/proxy.yaml --listen :8888 --listen unix:///run/kitexproxy.sock`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.config == "" && f.backend == "" {
				return usage(cmd, "serve needs to know where calls go: give a file with -c FILE, or an address with --backend ADDRESS")
			}
			return a.serve(cmd.Context(), &f)
		},
	}
	f.addConfig(cmd, "configuration `file`, or etcd://HOST:PORT/KEY")
	f.addListen(cmd)
	f.addHTTP(cmd)
	f.addBackend(cmd)
	f.addLog(cmd, "")
	f.addShutdown(cmd)
	return cmd
}

func (a *app) serve(ctx context.Context, f *flags) error {
	hangups, stop := notifyHangups() // one that comes early waits
	defer stop()
	src, err := a.sourceOf(f.config)
	if err != nil {
		return err
	}
	configured := func(ctx context.Context) (*conf.Config, error) {
		cfg, err := src.read(ctx)
		if err != nil {
			return nil, err
		}
		if f.config == "" {
			leaveOutDemo(cfg)
		}
		return cfg, f.apply(cfg)
	}
	cfg, err := configured(ctx)
	if err != nil {
		return err
	}
	var level slog.LevelVar
	logger := newLogger(a.stderr, cfg.Log, &level)
	routeLogs(logger)
	var reloading sync.WaitGroup
	defer reloading.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return a.run(ctx, cfg, logger, func(p *proxy.Proxy) {
		r := &reloader{proxy: p, name: f.config, follow: src.follow, load: configured, inUse: cfg, level: &level, log: logger}
		reloading.Go(func() { r.run(ctx, hangups) }) // ends with ctx
	})
}

// leaveOutDemo takes out of the built-in configuration what needs the demo backend.
func leaveOutDemo(cfg *conf.Config) { cfg.Schemas, cfg.HTTP, cfg.Admin = nil, nil, nil }

// load reads a configuration, or takes the built-in one if name is "".
func (a *app) load(ctx context.Context, name string) (*conf.Config, error) {
	src, err := a.sourceOf(name)
	if err != nil {
		return nil, err
	}
	return src.read(ctx)
}

// run runs a proxy until ctx ends, and calls ready once it answers calls.
func (a *app) run(ctx context.Context, cfg *conf.Config, logger *slog.Logger, ready func(*proxy.Proxy)) error {
	if ctx.Err() != nil {
		return nil // told to stop before it has started
	}
	tuneMemory(cfg.Transport)
	p, err := proxy.New(cfg, append([]proxy.Option{proxy.WithLogger(logger), proxy.WithVersion(ownVersion())}, a.opts...)...)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }() // ends with ctx
	select {
	case <-p.Ready():
		ready(p)
		return <-ended
	case err := <-ended:
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // told to stop while it was starting
		}
		return err
	}
}
