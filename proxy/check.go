package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/gateway"
	"github.com/kitexproxy/kitexproxy/handler/secure"
	"github.com/kitexproxy/kitexproxy/handler/tracing"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/discovery"
)

// Check returns what would keep a proxy with this configuration from starting, but
// for addresses that it cannot listen on: what New refuses, and files that cannot be
// used. It opens no connections, writes nothing and leaves nothing running.
func Check(cfg *conf.Config, opts ...Option) error {
	o := newOptions(opts)
	f, err := validate(cfg, o)
	if err != nil {
		return err
	}
	return errors.Join(checkListeners(cfg), checkClusters(cfg, o), checkLinks(cfg), checkReports(cfg), checkGateway(cfg, f))
}

// validate returns the filters of a configuration, and New's error if there is one.
func validate(cfg *conf.Config, o *options) (filters, error) {
	if err := o.toValidate(cfg).Validate(); err != nil {
		return filters{}, err
	}
	return newFilters(cfg, o)
}

var silent = slog.New(slog.DiscardHandler)

func checkListeners(cfg *conf.Config) error {
	var errs []error
	for _, l := range encryptions(cfg) {
		if l.tls != nil {
			_, err := secure.Server(l.tls, silent)
			errs = append(errs, at(l.path, err))
		}
	}
	return errors.Join(errs...)
}

func checkClusters(cfg *conf.Config, o *options) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Clusters)) {
		c, path := cfg.Clusters[name], conf.KeyPath("clusters", name)
		if c.TLS != nil {
			_, err := secure.Client(c.TLS, silent)
			errs = append(errs, at(conf.KeyPath(path, "tls"), err))
		}
		if c.Discovery != nil {
			_, err := discovery.Open(c.Discovery, o.registries)
			errs = append(errs, at(conf.KeyPath(path, "discovery"), err))
		}
	}
	return errors.Join(errs...)
}

// Warnings returns what is wrong with a valid configuration that keeps no proxy from
// starting: routes that no call goes by, and files that clusters would find no
// instances in. Like Check, it opens no connections.
func Warnings(cfg *conf.Config) []string {
	var all []string
	for _, s := range resolver.Unreachable(cfg) {
		all = append(all, s.Reason)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Clusters)) {
		d := cfg.Clusters[name].Discovery
		if d == nil || d.File == "" {
			continue
		}
		path := conf.KeyPath(conf.KeyPath("clusters", name), "discovery")
		if err := at(path, discovery.CheckFile(d.File)); err != nil {
			all = append(all, err.Error())
		}
	}
	return all
}

func checkLinks(cfg *conf.Config) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Interceptors)) {
		_, err := newLink(name, cfg.Interceptors[name], silent)
		errs = append(errs, at(conf.KeyPath("interceptors", name), err))
	}
	return errors.Join(errs...)
}

// checkReports checks that what is told of calls can be written, and sent.
func checkReports(cfg *conf.Config) error {
	var errs []error
	if cfg.AccessLog != nil {
		errs = append(errs, at("access_log.output", checkOutput(cfg.AccessLog.Output)))
	}
	if cfg.Tracing != nil {
		errs = append(errs, at("tracing", tracing.Check(tracingOf(cfg.Tracing, silent))))
	}
	return errors.Join(errs...)
}

// checkOutput returns why no file of this name could be written to, without making one.
func checkOutput(name string) error {
	if name == conf.OutputStderr || name == conf.OutputStdout {
		return nil
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory; name a file in it", name)
	case err == nil:
		return writable(name)
	case errors.Is(err, fs.ErrNotExist):
		return writable(filepath.Dir(name))
	default:
		return err
	}
}

// writable returns why the process may not write to a file or into a directory that is
// there.
func writable(path string) error {
	if err := unix.Access(path, unix.W_OK); err != nil {
		return &fs.PathError{Op: "write to", Path: path, Err: err}
	}
	return nil
}

// checkGateway checks the google.api.http options of the schemas that are files: those
// that backends tell are not known yet.
func checkGateway(cfg *conf.Config, f filters) error {
	if cfg.HTTP == nil || cfg.HTTP.Gateway == nil {
		return nil
	}
	g := gateway.New(gatewayOf(cfg.HTTP.Gateway, &cfg.HTTP.Listeners[0]))
	return at("http.gateway", g.Use(f.dynamic.services()))
}

// at says where in the configuration an error belongs to, or each of several.
func at(path string, err error) error {
	if err == nil {
		return nil
	}
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", path, err)
	}
	var all []error
	for _, one := range several.Unwrap() {
		all = append(all, at(path, one))
	}
	return errors.Join(all...)
}
