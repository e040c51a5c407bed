package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/idl"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// part is the calls of the demo through one proxy.
type part struct {
	mode    conf.Mode
	scenes  []scene
	as      string // how everything should arrive
	config  *conf.Config
	options []proxy.Option
	log     *accessLog // nil for none
}

// Run makes the demo's calls in each mode, through a backend and proxies in this
// process, and writes a transcript to out. The proxies log to logger. It returns
// nil if everything arrived as it should; otherwise the transcript says what did
// not.
func Run(ctx context.Context, out io.Writer, logger *slog.Logger) (err error) {
	handler := &service{}
	backend, err := startBackend("127.0.0.1:0", handler)
	if err != nil {
		return err
	}
	defer backend.Stop()
	dir, err := os.MkdirTemp("", "kitexproxy-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file, err := writeSchema(dir)
	if err != nil {
		return err
	}
	log, err := newAccessLog(dir)
	if err != nil {
		return err
	}
	defer log.close()
	parts, err := allParts(backend.Addr(), file, log)
	if err != nil {
		return err
	}
	return runParts(ctx, out, logger, handler, parts)
}

// writeSchema writes echo.proto into dir, and returns its path.
func writeSchema(dir string) (string, error) {
	file := filepath.Join(dir, "echo.proto")
	return file, os.WriteFile(file, idl.Echo, 0o600)
}

// allParts returns the parts of the demo before a backend, with the .proto file
// of its messages and the access log of one of them.
func allParts(backend, file string, log *accessLog) ([]*part, error) {
	frame, err := conf.Simple("127.0.0.1:0", backend)
	if err != nil {
		return nil, err
	}
	structs, err := structPart(backend, filters())
	if err != nil {
		return nil, err
	}
	dynamic, err := dynamicPart(backend, file, rules())
	if err != nil {
		return nil, err
	}
	around, err := interceptorPart(backend, log)
	if err != nil {
		return nil, err
	}
	return []*part{{mode: conf.ModeFrame, scenes: scenes(), as: "as sent", config: frame}, structs, dynamic, around}, nil
}

// structPart returns the part with filters in Go.
func structPart(backend string, filters [3]*filter.Filter) (*part, error) {
	cfg, err := conf.Simple("127.0.0.1:0", backend)
	if err != nil {
		return nil, err
	}
	cfg.Default.Mode = conf.ModeStruct
	var by [3]string
	for i, f := range filters {
		by[i] = describe(f)
	}
	return &part{
		mode: conf.ModeStruct, scenes: filteredScenes(by), as: "as filtered", config: cfg,
		options: []proxy.Option{
			proxy.WithServices(filter.KitexService(echoservice.NewServiceInfo())),
			proxy.WithFilters(filters[:]...),
		},
	}, nil
}

// dynamicPart returns the part with rules.
func dynamicPart(backend, file string, rules [3]string) (*part, error) {
	cfg, err := dynamicConfig(backend, file, rules[:]...)
	if err != nil {
		return nil, err
	}
	return &part{mode: conf.ModeDynamic, scenes: filteredScenes(rules), as: "as filtered", config: cfg}, nil
}

// interceptorPart returns the part with an interceptor and an access log.
func interceptorPart(backend string, log *accessLog) (*part, error) {
	cfg, err := interceptorConfig(backend, log.path)
	if err != nil {
		return nil, err
	}
	return &part{mode: conf.ModeFrame, scenes: interceptedScenes(), as: "as configured", config: cfg, log: log}, nil
}

// runParts plays one part after the other. A part that goes wrong does not keep
// the others from being played.
func runParts(ctx context.Context, out io.Writer, logger *slog.Logger, handler *service, parts []*part) error {
	var errs []error
	number := 1
	for _, p := range parts {
		err := throughProxy(ctx, p.config, append(p.options, proxy.WithLogger(logger)), func(address string) error {
			return p.play(ctx, out, address, number, handler)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("mode: %s: %w", p.mode, err))
		}
		number += len(p.scenes)
	}
	return errors.Join(errs...)
}

// play makes the part's calls at address.
func (p *part) play(ctx context.Context, out io.Writer, address string, number int, handler *service) error {
	c, err := newClient(address)
	if err != nil {
		return err
	}
	defer c.close()
	c.watched, c.log = handler, p.log
	before := ""
	if number > 1 {
		before = "\n"
	}
	if _, err := fmt.Fprintf(out, "%sclient -> proxy at %s, mode: %s -> demo backend\n\n", before, address, p.mode); err != nil {
		return fmt.Errorf("write the transcript: %w", err)
	}
	return c.playAll(ctx, out, number, p.scenes, p.as)
}

// throughProxy runs a proxy for as long as use takes.
func throughProxy(ctx context.Context, cfg *conf.Config, opts []proxy.Option, use func(address string) error) error {
	p, err := proxy.New(cfg, opts...)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }() // ends with ctx
	select {
	case <-p.Ready():
	case err := <-ended:
		return err
	}
	err = use(conf.FormatAddress(p.Addrs()[0]))
	stop()
	return errors.Join(err, <-ended)
}
