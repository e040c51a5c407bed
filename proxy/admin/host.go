package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard lets only requests through that mean this address. A page in a browser on this
// machine can have its own name resolve to 127.0.0.1, and would then be allowed to read
// what is there (DNS rebinding); it cannot change the name that the browser sends.
// Behind an address that others reach, names are theirs to choose.
func guard(listener net.Addr, next http.Handler) http.Handler {
	if !loopback(listener) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !means(listener, r.Host) {
			http.Error(w, fmt.Sprintf("host %q is not this address: ask for localhost or %v, "+
				"so that no page in a browser can read this under a name of its own", r.Host, listener), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// loopback reports whether only this machine can reach an address by IP.
func loopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// means reports whether a Host header is one of this machine for itself. Browsers
// always send one.
func means(listener net.Addr, host string) bool {
	if host == "" || host == listener.String() {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}
