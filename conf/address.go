package conf

import (
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	unixScheme = "unix://"
	// maxSocketPath is what fits in a sockaddr_un on Linux, with its final NUL.
	maxSocketPath = 107

	listenerHint = `write "host:port", ":port" or "unix:///path/to/socket"`
	instanceHint = `write "host:port" or "unix:///path/to/socket"`
)

// SplitAddress returns the network and the address that net.Listen and net.Dial
// take for an address of a valid Config: ("tcp", "host:port") or
// ("unix", "/path/to/socket").
func SplitAddress(address string) (network, rest string) {
	if path, ok := strings.CutPrefix(address, unixScheme); ok {
		return "unix", path
	}
	return "tcp", address
}

// FormatAddress returns an address in the form that a Config has it: the
// opposite of SplitAddress.
func FormatAddress(addr net.Addr) string {
	if addr.Network() == "unix" {
		return unixScheme + addr.String()
	}
	return addr.String()
}

// CheckInstance returns what is wrong with an address that Cluster.Instances could
// have, as an *Error without a position; nil if nothing is. It is for addresses that
// come from elsewhere.
func CheckInstance(address string) error {
	parsed, problem, hint := parseAddress(address)
	if problem == "" {
		problem = parsed.unreachable()
	}
	if problem == "" {
		return nil
	}
	if hint == "" {
		hint = instanceHint
	}
	return &Error{Value: address, Problem: problem, Hint: hint}
}

// parsedAddress is an address in the form in which two can be compared.
type parsedAddress struct {
	path string // of a Unix socket; the rest is unset then
	host string
	port uint16
}

// unreachable returns why nothing can connect to an address that listeners may have;
// "" if one can.
func (a parsedAddress) unreachable() string {
	switch {
	case a.path == "" && a.host == "":
		return "has no host"
	case a.path == "" && a.port == 0:
		return "has port 0, where nothing can be reached"
	}
	return ""
}

// parseAddress returns what is wrong with an address, "" if nothing is, and
// perhaps a hint that is better than the general one.
func parseAddress(address string) (parsed parsedAddress, problem, hint string) {
	switch colons := strings.Count(address, ":"); {
	case address == "":
		return parsed, "must not be empty", ""
	case strings.HasPrefix(address, "unix:"):
		return parseSocket(address)
	case strings.Contains(address, "://"):
		return parsed, "begins with a scheme that is not known here", ""
	case colons > 1 && address[0] != '[':
		return parsed, "has more than one colon", `put an IPv6 address in brackets, such as "[::1]:8888"`
	case colons == 0, address[len(address)-1] == ']':
		return parsed, "has no port", ""
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return parsed, "is not an address", ""
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return parsed, "has a port that is not a number from 0 to 65535", ""
	}
	host, ok := parseHost(host, address[0] == '[')
	switch {
	case !ok && address[0] == '[':
		return parsed, "has something other than an IPv6 address in brackets", ""
	case !ok:
		return parsed, "has a host that is neither a name nor an IP address", ""
	}
	return parsedAddress{host: host, port: uint16(number)}, "", ""
}

func parseSocket(address string) (parsed parsedAddress, problem, hint string) {
	const example = `write "unix://" and the absolute path of a socket, such as "unix:///run/kitexproxy.sock"`
	network, path := SplitAddress(address)
	switch {
	case network != "unix" || !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "\x00"):
		return parsed, "is not the address of a socket", example
	case len(path) > maxSocketPath:
		return parsed, "has a path of more than " + strconv.Itoa(maxSocketPath) + " bytes", "the system takes no longer one"
	}
	return parsedAddress{path: filepath.Clean(path)}, "", ""
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// parseHost returns the host in the form to compare. An empty one is all
// addresses of the machine, which only a listener may have.
func parseHost(host string, inBrackets bool) (string, bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), ip.Is6() == inBrackets
	}
	if host == "" || inBrackets {
		return host, !inBrackets
	}
	// A name whose last part is a number, such as 127.0.0.256, is a mistyped
	// address.
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	_, err := strconv.Atoi(labels[len(labels)-1])
	return strings.ToLower(host), err != nil && len(host) <= 253 && hostName.MatchString(host)
}
