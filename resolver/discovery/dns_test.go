package discovery

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/kitexproxy/kitexproxy/conf"
)

// nameServer is a DNS server for one name.
type nameServer struct {
	mu    sync.Mutex
	v4    [][4]byte
	v6    [][16]byte
	codes map[dnsmessage.Type]dnsmessage.RCode // Default success
}

func (n *nameServer) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// serveNames runs a nameServer on loopback, and returns a source that asks it.
func serveNames(t *testing.T, n *nameServer) Source {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := n.answer(buf[:size]); err == nil {
				conn.WriteTo(answer, from)
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		running.Wait()
	})
	d := &dnsSource{name: "orders.test.", port: 8888, resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
		},
	}}
	return Source{Name: `dns "orders.test:8888"`, Resolver: resolver("dns", d.resolve)}
}

func (n *nameServer) answer(question []byte) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil, errors.Join(err, errors.New("no question"))
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.RCode, m.Additionals = true, true, n.codes[q.Type], nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	if m.RCode == dnsmessage.RCodeSuccess && q.Type == dnsmessage.TypeA {
		for _, a := range n.v4 {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a}})
		}
	}
	if m.RCode == dnsmessage.RCodeSuccess && q.Type == dnsmessage.TypeAAAA {
		for _, a := range n.v6 {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a}})
		}
	}
	return m.Pack()
}

func TestDNSHasAnInstanceForEachAddress(t *testing.T) {
	n := &nameServer{v4: [][4]byte{{10, 0, 0, 2}, {10, 0, 0, 1}, {10, 0, 0, 2}}, v6: [][16]byte{{0: 0x20, 1: 0x01, 15: 1}}}
	w := watch(t, serveNames(t, n), 10*time.Millisecond)
	assert.Equal(t, "10.0.0.1:8888 10.0.0.2:8888 [2001::1]:8888", w.next(t))

	n.set(func() { n.v4, n.v6 = [][4]byte{{10, 0, 0, 3}}, nil })
	assert.Equal(t, "10.0.0.3:8888", w.next(t))

	n.set(func() { n.v4, n.v6 = nil, [][16]byte{{15: 1}} })
	assert.Equal(t, "[::1]:8888", w.next(t))
}

// What net says of a name that only the file of hosts has, with addresses of one family,
// it says of an address as well.
func TestDNSNameOfTheFileOfHosts(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1": "127.0.0.1:8888", "::1": "[::1]:8888"} {
		d := &dnsSource{name: address, port: 8888, resolver: net.DefaultResolver}
		instances, err := d.resolve(t.Context())
		require.NoError(t, err)
		require.Len(t, instances, 1)
		assert.Equal(t, want, instances[0].Address().String())
	}
}

func TestDNSNameThatVanishes(t *testing.T) {
	n := &nameServer{v4: [][4]byte{{10, 0, 0, 1}}}
	w := watch(t, serveNames(t, n), 10*time.Millisecond)
	assert.Equal(t, "10.0.0.1:8888", w.next(t))

	n.set(func() {
		n.codes = map[dnsmessage.Type]dnsmessage.RCode{
			dnsmessage.TypeA: dnsmessage.RCodeNameError, dnsmessage.TypeAAAA: dnsmessage.RCodeNameError,
		}
	})
	require.Eventually(t, func() bool { return w.Status().Err != nil }, 20*time.Second, time.Millisecond)
	require.EqualError(t, w.Status().Err, `the name "orders.test." does not exist, or has no addresses`)
	assert.Equal(t, 1, w.Status().Instances)
	assert.Empty(t, w.updates)

	n.set(func() { n.codes, n.v4 = nil, [][4]byte{{10, 0, 0, 2}} })
	assert.Equal(t, "10.0.0.2:8888", w.next(t))
}

// A server that fails for one family must not take away half of the instances.
func TestDNSThatFailsForOneFamily(t *testing.T) {
	n := &nameServer{v4: [][4]byte{{10, 0, 0, 1}}, v6: [][16]byte{{15: 1}}}
	w := watch(t, serveNames(t, n), 10*time.Millisecond)
	assert.Equal(t, "10.0.0.1:8888 [::1]:8888", w.next(t))

	n.set(func() {
		n.v4 = [][4]byte{{10, 0, 0, 2}}
		n.codes = map[dnsmessage.Type]dnsmessage.RCode{dnsmessage.TypeAAAA: dnsmessage.RCodeServerFailure}
	})
	assert.Equal(t, "10.0.0.2:8888 [::1]:8888", w.next(t))
	assert.Equal(t, 1, w.Status().Refused)
	require.Eventually(t, func() bool { return w.log.warnings("ip6 addresses") == 1 }, 20*time.Second, time.Millisecond)

	n.set(func() { n.codes[dnsmessage.TypeA] = dnsmessage.RCodeServerFailure })
	require.Eventually(t, func() bool { return w.Status().Err != nil }, 20*time.Second, time.Millisecond)
	assert.ErrorContains(t, w.Status().Err, "ip4 addresses")
	assert.Empty(t, w.updates)
}

func TestDNSAddresses(t *testing.T) {
	for _, address := range []string{"orders", "orders:http", "orders:0", ":80", "::1:80"} {
		_, err := Open(&conf.Discovery{DNS: address}, nil)
		assert.Error(t, err, address)
	}
	source, err := Open(&conf.Discovery{DNS: "127.0.0.1:80"}, nil)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:80", watch(t, source, never).next(t))
}
