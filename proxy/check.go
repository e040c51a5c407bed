package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/secure"
	"github.com/kitexproxy/kitexproxy/resolver/discovery"
)

// Check returns what would keep a proxy with this configuration from starting, but
// for addresses that it cannot listen on: what New refuses, and files of TLS that
// cannot be used. It opens no connections.
func Check(cfg *conf.Config, opts ...Option) error {
	if _, err := Plan(cfg, opts...); err != nil {
		return err
	}
	o := newOptions(opts)
	var errs []error
	for i, l := range cfg.Listeners {
		if l.TLS != nil {
			_, err := secure.Server(l.TLS, slog.New(slog.DiscardHandler))
			errs = append(errs, at(conf.KeyPath(conf.ItemPath("listeners", i), "tls"), err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Clusters)) {
		c, path := cfg.Clusters[name], conf.KeyPath("clusters", name)
		if c.TLS != nil {
			_, err := secure.Client(c.TLS, slog.New(slog.DiscardHandler))
			errs = append(errs, at(conf.KeyPath(path, "tls"), err))
		}
		if c.Discovery != nil {
			_, err := discovery.Open(c.Discovery, o.registries)
			errs = append(errs, at(conf.KeyPath(path, "discovery"), err))
		}
	}
	return errors.Join(errs...)
}

// at says where in the configuration an error belongs to.
func at(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}
