package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudwego/kitex/pkg/discovery"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

const (
	// maxInstances is how many instances a cluster gets at most.
	maxInstances = 10_000
	// maxWeight is the largest weight, for sums to be far from overflowing.
	maxWeight = 1_000_000
)

// usable returns what a cluster can use of an answer: each address once, sorted by
// address, and what it cannot use with the reason. Of the weights of an instance that
// occurs more than once the largest counts.
func usable(all []discovery.Instance) (instances []cluster.Instance, refused []string) {
	for _, in := range all {
		address, err := addressOf(in)
		if err != nil {
			refused = append(refused, err.Error())
			continue
		}
		weight := min(max(in.Weight(), 0), maxWeight)
		instances = append(instances, cluster.Instance{Address: address, Weight: weight})
	}
	slices.SortFunc(instances, func(a, b cluster.Instance) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), b.Weight-a.Weight)
	})
	instances = slices.CompactFunc(instances, func(a, b cluster.Instance) bool { return a.Address == b.Address })
	if more := len(instances) - maxInstances; more > 0 {
		refused = append(refused, fmt.Sprintf("%d more instances than the %d that a cluster can have", more, maxInstances))
		instances = instances[:maxInstances]
	}
	return slices.Clip(instances), refused
}

// addressOf returns the address of an instance as a configuration would have it.
func addressOf(in discovery.Instance) (string, error) {
	if in == nil || in.Address() == nil {
		return "", errors.New("an instance has no address")
	}
	switch network := in.Address().Network(); network {
	case "", "tcp", "tcp4", "tcp6", "unix":
		return parseAddress(conf.FormatAddress(in.Address()))
	default:
		return "", fmt.Errorf("%s is an address for %s, and instances are reached by tcp or unix",
			show(in.Address().String()), show(network))
	}
}

// parseAddress checks an address, and returns it in the form in which two can be
// compared.
func parseAddress(address string) (string, error) {
	if err := conf.CheckInstance(address); err != nil {
		return "", err
	}
	network, rest := conf.SplitAddress(address)
	if network == "unix" {
		return address, nil
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	}
	return net.JoinHostPort(strings.ToLower(host), strings.TrimLeft(port, "0")), nil
}

// show puts text that others wrote on one line of a message, if it is not too long.
func show(text string) string {
	const long = 120 // bytes
	if len(text) > long {
		return strconv.QuoteToASCII(text[:long] + "...")
	}
	return strconv.Quote(text)
}
