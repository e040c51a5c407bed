package function

import (
	"net/http"
	"net/netip"
	"strings"
)

// The headers that tell a function who is calling, behind the proxies between them.
const (
	forwardedFor   = "X-Forwarded-For"
	forwardedHost  = "X-Forwarded-Host"
	forwardedProto = "X-Forwarded-Proto"
)

// forwardIfAbsent sets these headers in out, unless the request has them: as OpenFaaS's
// providers do, with the port in the client's address and nothing about the protocol.
func forwardIfAbsent(out http.Header, in *http.Request) {
	setOr(out, forwardedFor, in.Header[forwardedFor], in.RemoteAddr)
	setOr(out, forwardedHost, in.Header[forwardedHost], in.Host)
	if proto := in.Header[forwardedProto]; len(proto) > 0 {
		out[forwardedProto] = proto
	}
}

// trusts are the networks of proxies that are believed.
type trusts []netip.Prefix

// forward sets the headers in out to what is known of the client: by the request if it
// comes from a proxy that is believed, and else by the connection alone.
func (t trusts) forward(out http.Header, in *http.Request) {
	peer := peerOf(in)
	if t.include(peer) {
		prior := append([]string(nil), in.Header[forwardedFor]...)
		out[forwardedFor] = []string{strings.Join(append(prior, peer.String()), ", ")}
		setOr(out, forwardedHost, in.Header[forwardedHost], in.Host)
		setOr(out, forwardedProto, in.Header[forwardedProto], protoOf(in))
		return
	}
	for key := range out {
		if isForwarding(key) {
			delete(out, key)
		}
	}
	if peer.IsValid() {
		out[forwardedFor] = []string{peer.String()}
	}
	setOr(out, forwardedHost, nil, in.Host)
	out[forwardedProto] = []string{protoOf(in)}
}

func (t trusts) include(peer netip.Addr) bool {
	for _, network := range t {
		if network.Contains(peer) {
			return true
		}
	}
	return false
}

// peerOf returns the address at the other end of the connection. It is not valid if
// that has none, as with Unix sockets.
func peerOf(in *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(in.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

func protoOf(in *http.Request) string {
	if in.TLS != nil {
		return "https"
	}
	return "http"
}

// setOr sets a header to what came, or else to value, if that is not empty.
func setOr(out http.Header, key string, came []string, value string) {
	switch {
	case len(came) > 0 && came[0] != "":
		out[key] = came
	case value != "":
		out[key] = []string{value}
	}
}

// isForwarding reports whether a header is one of those in which proxies say who called
// them. Underscores count as dashes, because they look the same to functions that get
// headers as environment variables (RFC 3875 section 4.1.18).
func isForwarding(key string) bool {
	const prefix = "X-Forwarded-"
	if key == "" || key[0] != 'X' && key[0] != 'F' { // in canonical form
		return false
	}
	key = strings.ReplaceAll(key, "_", "-")
	return strings.EqualFold(key, "Forwarded") || strings.EqualFold(key, "X-Real-Ip") ||
		len(key) >= len(prefix) && strings.EqualFold(key[:len(prefix)], prefix)
}
