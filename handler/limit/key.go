package limit

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

// What calls have in common that share a limit: the values of Rate.Key and
// Concurrency.Key.
const (
	// All is for one limit that all calls share.
	All = "all"
	// Identity is who calls, as far as it is known when the limit is reached: links that
	// find it out come before. Calls without an identity share a limit.
	Identity = "identity"
	// Peer is the client's IP address, without the port.
	Peer = "peer"
	// Method is the full method name.
	Method = "method"
	// Metadata stands before a key of metadata: calls with the same first value of it.
	// Those without share a limit.
	Metadata = "metadata:"
)

// maxText bounds the text of a key, in bytes; of what is longer, the hash is the key.
const maxText = 128

// key tells apart what has limits of its own.
type key struct {
	addr netip.Addr // for Peer
	kind string     // for Identity
	text string     // for the others
}

// keyFunc returns the key of a call.
type keyFunc func(c *intercept.Call) key

// parseKey returns what finds the keys of calls, nil for All, and what messages call it.
func parseKey(name string) (of keyFunc, description string, err error) {
	if header, ok := strings.CutPrefix(name, Metadata); ok && header != "" {
		header = strings.ToLower(header)
		return func(c *intercept.Call) key { return key{text: short(c.Request().Metadata.Get(header))} },
			fmt.Sprintf("for each value of %q", header), nil
	}
	switch name {
	case All, "":
		return nil, "for all calls together", nil
	case Identity:
		return identityKey, "for each caller", nil
	case Peer:
		return peerKey, "for each client address", nil
	case Method:
		return func(c *intercept.Call) key { return key{text: short(c.Method())} }, "for each method", nil
	}
	return nil, "", fmt.Errorf("key: %q is nothing that calls have in common; write %s, %s, %s, %s or %sKEY",
		name, All, Identity, Peer, Method, Metadata)
}

func identityKey(c *intercept.Call) key {
	id := c.Identity()
	return key{kind: id.Kind, text: short(id.Name)}
}

// peerKey is the client's address. One without an IP address, such as that of a socket
// in the file system, is what it is called.
func peerKey(c *intercept.Call) key {
	switch addr := c.Peer().(type) {
	case nil:
		return key{}
	case *net.TCPAddr:
		return key{addr: withoutZone(addr.AddrPort().Addr())}
	default:
		if ip, err := netip.ParseAddrPort(addr.String()); err == nil {
			return key{addr: withoutZone(ip.Addr())}
		}
		return key{text: short(addr.String())}
	}
}

func withoutZone(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// short bounds what a key keeps in memory.
func short(text string) string {
	if len(text) <= maxText {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return string(sum[:])
}

// clone returns the key with text of its own: what it was taken from may be larger.
func (k key) clone() key {
	k.kind, k.text = strings.Clone(k.kind), strings.Clone(k.text)
	return k
}
