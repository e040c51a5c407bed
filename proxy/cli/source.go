package cli

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/conf/follow"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/resolver/discovery"
)

// source is where a configuration is read from.
type source interface {
	// read returns the configuration, which is valid.
	read(ctx context.Context) (*conf.Config, error)
	// follow calls changed whenever there may be another one, until ctx ends.
	follow(ctx context.Context, changed func())
}

// etcdScheme is what the name of a configuration in etcd begins with; the members of
// etcd and the key follow: etcd://10.0.0.1:2379,10.0.0.2:2379/kitexproxy/routes.
const etcdScheme = "etcd://"

// sourceOf returns the source of that name: a file, a key of etcd, or "" for the
// built-in configuration. Interceptors of the program may be in its lists.
func (a *app) sourceOf(name string) (source, error) {
	known := conf.GoInterceptors(proxy.LinkNames(a.opts...)...)
	rest, inEtcd := strings.CutPrefix(name, etcdScheme)
	if !inEtcd {
		return &file{path: name, known: known}, nil
	}
	endpoints, key, _ := strings.Cut(rest, "/")
	if endpoints == "" || key == "" {
		return nil, fmt.Errorf("%s: a configuration in etcd is named as etcd://HOST:PORT/KEY, with several HOST:PORT by commas", name)
	}
	return &etcdKey{name, &conf.Etcd{Endpoints: strings.Split(endpoints, ",")}, key, known}, nil
}

// file is a configuration file, or the built-in configuration if it is "". That says
// no more than where calls go: as with --backend, filters of the program are asked.
type file struct {
	path  string
	known conf.Option                       // the interceptors of the program
	seen  atomic.Pointer[[sha256.Size]byte] // of what it held when it was last read, nil before
}

func (f *file) read(context.Context) (*conf.Config, error) {
	if f.path != "" {
		f.seen.Store(f.sum()) // before, so that no change is missed
		return conf.Load(f.path, f.known)
	}
	cfg, err := conf.Parse("the built-in configuration", conf.DefaultYAML(), f.known)
	if err != nil {
		return nil, err
	}
	cfg.Default.Mode = conf.ModeStruct
	return cfg, nil
}

// follow leaves out what changes nothing, such as that it begins.
func (f *file) follow(ctx context.Context, changed func()) {
	if f.path == "" {
		return
	}
	follow.File(ctx, f.path, func() {
		if seen := f.seen.Load(); seen == nil || *f.sum() != *seen {
			changed()
		}
	})
}

// sum tells contents of the file apart. One that cannot be read is like none.
func (f *file) sum() *[sha256.Size]byte {
	text, _ := os.ReadFile(f.path)
	sum := sha256.Sum256(text)
	return &sum
}

// etcdKey is a configuration that several proxies read from etcd. Files that it names
// are relative to the directory of the process.
type etcdKey struct {
	name  string
	etcd  *conf.Etcd
	key   string
	known conf.Option // the interceptors of the program
}

// etcdPatience is how long etcd may take to answer.
const etcdPatience = 10 * time.Second

func (e *etcdKey) read(ctx context.Context) (*conf.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdPatience)
	defer cancel()
	k := discovery.OpenKey(e.etcd, e.key)
	defer func() { _ = k.Close() }()
	text, err := k.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.name, err)
	}
	return conf.Parse(e.name, text, e.known)
}

func (e *etcdKey) follow(ctx context.Context, changed func()) {
	k := discovery.OpenKey(e.etcd, e.key)
	defer func() { _ = k.Close() }()
	k.Follow(ctx, changed)
}
