package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"github.com/cloudwego/kitex/pkg/discovery"
)

// dnsSource has an instance for each address of a name.
type dnsSource struct {
	name     string
	port     uint16
	resolver *net.Resolver

	// last are the addresses of each family that were found last.
	last [len(families)][]netip.Addr
}

// families are looked up each by itself: asked for both, net.Resolver returns those of
// one and no error if the other could not be looked up.
var families = [...]string{"ip4", "ip6"}

func openDNS(address string) (Source, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return Source{}, fmt.Errorf("%s is not a name and a port; write \"name:port\"", show(address))
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || name == "" {
		return Source{}, fmt.Errorf("%s is not a name and a port from 1 to 65535", show(address))
	}
	d := &dnsSource{name: name, port: uint16(number), resolver: net.DefaultResolver}
	return Source{Name: fmt.Sprintf("dns %q", address), Resolver: resolver("dns", d.resolve), Service: name}, nil
}

// resolve returns the addresses of both families. Those of one that cannot be looked
// up right now are the last known ones. A name that does not exist is an error.
func (d *dnsSource) resolve(ctx context.Context) ([]discovery.Instance, error) {
	var instances []discovery.Instance
	var failures []error
	for i, err := range d.lookUp(ctx) {
		if err != nil {
			failures = append(failures, fmt.Errorf("%s addresses: %w", families[i], err))
		}
		for _, ip := range d.last[i] {
			address := netip.AddrPortFrom(ip.Unmap(), d.port)
			instances = append(instances, discovery.NewInstance("tcp", address.String(), discovery.DefaultWeight, nil))
		}
	}
	switch {
	case len(failures) == len(families), len(instances) == 0 && len(failures) > 0:
		return nil, errors.Join(failures...)
	case len(instances) == 0:
		return nil, fmt.Errorf("the name %q does not exist, or has no addresses", d.name)
	case len(failures) > 0:
		return instances, &IncompleteError{Missing: []string{failures[0].Error()}}
	}
	return instances, nil
}

// lookUp brings last up to date, and returns for each family why that was not
// possible.
func (d *dnsSource) lookUp(ctx context.Context) (failures [len(families)]error) {
	var lookups sync.WaitGroup
	for i, family := range families {
		lookups.Go(func() {
			addresses, err := d.resolver.LookupNetIP(ctx, family, d.name)
			if err == nil || isNotFound(err) {
				d.last[i] = addresses
				return
			}
			failures[i] = err
		})
	}
	lookups.Wait()
	return failures
}

// isNotFound reports whether a name has no addresses of a family. There is an error of its
// own for one that has addresses of the other, and has them from the file of hosts.
func isNotFound(err error) bool {
	var dns *net.DNSError
	var other *net.AddrError
	return errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &other)
}
