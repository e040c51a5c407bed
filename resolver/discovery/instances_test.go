package discovery

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func TestUsable(t *testing.T) {
	found, refused := usable([]discovery.Instance{
		discovery.NewInstance("tcp", "b.example:2", 10, nil),
		discovery.NewInstance("tcp", "10.0.0.1:1", 10, nil),
		discovery.NewInstance("tcp4", "10.0.0.1:1", 30, nil), // again, with more weight
		discovery.NewInstance("tcp", "[0:0::1]:1", 20, nil),
		discovery.NewInstance("tcp", "[::1]:1", 20, nil), // again, otherwise written
		discovery.NewInstance("unix", "/run/b.sock", 10, nil),
		discovery.NewInstance("", "B.example:2", -1, nil), // again, with less
		discovery.NewInstance("tcp", "none.example:2", -1, nil),
		discovery.NewInstance("tcp", "much.example:2", 1<<40, nil),
		nil,
		discovery.NewInstance("udp", "10.0.0.9:1", 10, nil),
		discovery.NewInstance("tcp", "10.0.0.9", 10, nil),
		nowhere{},
	})
	assert.Equal(t, []cluster.Instance{
		{Address: "10.0.0.1:1", Weight: 30},
		{Address: "[::1]:1", Weight: 20},
		{Address: "b.example:2", Weight: 10},
		{Address: "much.example:2", Weight: maxWeight},
		{Address: "none.example:2", Weight: 0},
		{Address: "unix:///run/b.sock", Weight: 10},
	}, found)
	assert.Equal(t, []string{
		"an instance has no address",
		`"10.0.0.9:1" is an address for "udp", and instances are reached by tcp or unix`,
		`"10.0.0.9" has no port; write "host:port" or "unix:///path/to/socket"`,
		"an instance has no address",
	}, refused)
}

// nowhere is an instance whose address has not been set.
type nowhere struct{ discovery.Instance }

func (nowhere) Address() net.Addr { return nil }

func TestInstancesAreBounded(t *testing.T) {
	var all []discovery.Instance
	for i := range maxInstances + 3 {
		all = append(all, tcp(fmt.Sprintf("h%05d:1", i))...)
	}
	found, refused := usable(all)
	require.Len(t, found, maxInstances)
	assert.Equal(t, "h00000:1", found[0].Address)
	assert.Equal(t, []string{"3 more instances than the 10000 that a cluster can have"}, refused)
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:80":                       "127.0.0.1:80",
		"[2001:DB8::1]:80":                   "[2001:db8::1]:80",
		"Orders.example:080":                 "orders.example:80",
		"orders_v1.example.:1":               "orders_v1.example.:1",
		"unix:///run/x.sock":                 "unix:///run/x.sock",
		"":                                   "",
		"orders":                             "",
		"orders:":                            "",
		"orders:http":                        "",
		"orders:0":                           "",
		"orders:65536":                       "",
		":80":                                "",
		"127.0.0.256:80":                     "",
		"2001:db8::1:80":                     "",
		"-orders:80":                         "",
		"ord ers:80":                         "",
		"a..b:80":                            "",
		"http://orders:80":                   "",
		"unix://run/x.sock":                  "",
		"unix:///run/":                       "",
		"orders\n:80":                        "",
		strings.Repeat("a.", 127) + ":80":    "",
		strings.Repeat("a.", 130) + "com:80": "",
	} {
		got, err := parseAddress(address)
		assert.Equal(t, want, got, "%q", address)
		assert.Equal(t, want == "", err != nil, "%q: %v", address, err)
		if err != nil {
			assert.NotContains(t, err.Error(), "\n")
		}
	}
}
