package resolver

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// mappedBits is what comes before an IPv4 address in IPv6 (RFC 4291 section
// 2.5.5.2).
const mappedBits = 96

// newNetwork makes a valid network or IP address of the configuration ready. One
// of IPv4 addresses in IPv6 is the same in IPv4, as peerOf has those.
func newNetwork(text string) netip.Prefix {
	if !strings.Contains(text, "/") {
		addr := netip.MustParseAddr(text).Unmap()
		return netip.PrefixFrom(addr, addr.BitLen())
	}
	p := netip.MustParsePrefix(text)
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p.Masked()
}

// peerOf returns a client's IP address as the network of just that, and the zero
// value for one that has none, such as that of a Unix socket.
func peerOf(a net.Addr) netip.Prefix {
	addr := ipOf(a).Unmap()
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}

func ipOf(a net.Addr) netip.Addr {
	if a == nil || !strings.HasPrefix(a.Network(), "tcp") {
		return netip.Addr{}
	}
	if tcp, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return tcp.AddrPort().Addr()
	}
	parsed, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return parsed.Addr()
}

// contains reports whether all of inner is in outer.
func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// anyContains reports whether one of the networks has all of inner in it.
func anyContains(outer []netip.Prefix, inner netip.Prefix) bool {
	return slices.ContainsFunc(outer, func(o netip.Prefix) bool { return contains(o, inner) })
}

func networkList(networks []netip.Prefix) string {
	var texts []string
	for _, n := range networks {
		texts = append(texts, n.String())
	}
	return strings.Join(texts, ", ")
}
