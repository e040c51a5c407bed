// Package discovery finds the instances of clusters: in a file, by DNS, in etcd, or
// in any registry that there is a discovery.Resolver of Kitex for.
//
// A Source is where to ask, and a Watch asks it: at once when the source tells of a
// change, and every now and then anyway. Calls do not depend on a source that works:
// what was found last stays in use while it fails, and also when it suddenly has no
// instances at all, because a registry that has lost its data must not take a service
// down.
package discovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/rpcinfo"

	"github.com/kitexproxy/kitexproxy/conf"
)

// Source is where the instances of one cluster are learned from.
type Source struct {
	// Name is for people: `dns "orders:8888"`.
	Name string
	// Resolver is asked for the instances, by one goroutine at a time. With an
	// *IncompleteError, what it returns is used all the same.
	Resolver discovery.Resolver
	// Service is the name of what it is asked for.
	Service string
	// Notify, unless it is nil, calls changed when there may be something new, and
	// returns when ctx ends. changed does not block.
	Notify func(ctx context.Context, changed func())

	close func() error
}

// Close ends what the source holds, such as a connection to etcd, once neither
// Resolver nor Notify is in use. A registry that the program was given stays as it is.
func (s *Source) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// IncompleteError is a resolver's error for an answer that lacks what could not be
// read.
type IncompleteError struct {
	// Missing says what is left out, and why.
	Missing []string
}

func (e *IncompleteError) Error() string { return strings.Join(e.Missing, "; ") }

// Open returns the source that cfg, which is valid, describes. registries are those
// that the program was given, by name. Nothing is asked yet: a source that cannot be
// reached is no error, but an unknown registry is.
func Open(cfg *conf.Discovery, registries map[string]discovery.Resolver) (Source, error) {
	switch {
	case cfg.File != "":
		return openFile(cfg.File), nil
	case cfg.DNS != "":
		return openDNS(cfg.DNS)
	case cfg.Etcd != nil:
		return openEtcd(cfg.Etcd, cfg.Service), nil
	case cfg.Registry != "":
		return openRegistry(cfg.Registry, cfg.Service, registries)
	default:
		return Source{}, errors.New("no source of instances is set: one of file, dns, etcd and registry is wanted")
	}
}

func openRegistry(name, service string, registries map[string]discovery.Resolver) (Source, error) {
	resolver, ok := registries[name]
	if !ok || resolver == nil {
		known := "it was given none"
		if len(registries) > 0 {
			known = "it was given " + strings.Join(slices.Sorted(maps.Keys(registries)), ", ")
		}
		return Source{}, fmt.Errorf("the program has no registry %q; %s", name, known)
	}
	return Source{
		Name:     fmt.Sprintf("service %q in registry %q", service, name),
		Resolver: resolver,
		Service:  service,
	}, nil
}

// resolver makes a Kitex resolver of a function that knows what to look for.
func resolver(name string, resolve func(ctx context.Context) ([]discovery.Instance, error)) discovery.Resolver {
	return discovery.SynthesizedResolver{
		TargetFunc: func(_ context.Context, target rpcinfo.EndpointInfo) string { return target.ServiceName() },
		ResolveFunc: func(ctx context.Context, service string) (discovery.Result, error) {
			instances, err := resolve(ctx)
			return discovery.Result{Cacheable: true, CacheKey: service, Instances: instances}, err
		},
		NameFunc: func() string { return name },
	}
}
