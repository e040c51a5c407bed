package demo

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/client/streamclient"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/netpoll"

	"github.com/kitexproxy/kitexproxy/conf"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

// echoClient is a Kitex client of the Echo service, as its users write one:
// the generated clients for unary and for streaming methods.
type echoClient struct {
	unary  echoservice.Client
	stream echoservice.StreamClient
	dialer *dialer
	// watched notes what the backend sees of the calls; nil if that is not known.
	watched *service
	// log is what the proxy tells of each call; nil if it does not.
	log *accessLog
}

const connectTimeout = 3 * time.Second

// newClient returns a client of the Echo service at address: "host:port", or
// "unix:///path/to/socket". It connects with the first call.
func newClient(address string) (*echoClient, error) {
	d := &dialer{netpoll: netpoll.NewDialer(), address: address}
	options := []client.Option{
		// The address is the dialer's business. This only keeps Kitex from
		// looking for a service registry.
		client.WithHostPorts("127.0.0.1:0"),
		client.WithConnectTimeout(connectTimeout),
		client.WithGRPCConnPoolSize(1),
		client.WithDialer(d),
	}
	unary, err := echoservice.NewClient(serviceName, options...)
	if err != nil {
		return nil, fmt.Errorf("kitex client: %w", err)
	}
	var streamOptions []streamclient.Option
	for _, o := range options {
		//lint:ignore SA1019 every option of Kitex's generated stream clients is deprecated
		streamOptions = append(streamOptions, streamclient.ConvertOptionFrom(o))
	}
	stream, err := echoservice.NewStreamClient(serviceName, streamOptions...)
	if err != nil {
		return nil, fmt.Errorf("kitex client: %w", err)
	}
	return &echoClient{unary: unary, stream: stream, dialer: d}, nil
}

// serviceName is what Kitex sends as :authority.
const serviceName = "echo"

func (c *echoClient) close() { c.dialer.close() }

// dialer connects to one address and remembers the connections, because
// Kitex's generated clients leave closing theirs to the garbage collector.
type dialer struct {
	netpoll remote.Dialer
	address string

	mu    sync.Mutex
	conns []net.Conn
	err   error // of the last attempt
}

// DialTimeout implements Kitex's remote.Dialer.
func (d *dialer) DialTimeout(_, _ string, timeout time.Duration) (net.Conn, error) {
	network, address := conf.SplitAddress(d.address)
	conn, err := d.netpoll.DialTimeout(network, address, timeout)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err = err; err != nil {
		return nil, err
	}
	d.conns = append(d.conns, conn)
	return conn, nil
}

// failure tells why there is no connection, if so. Kitex's own error for that
// looks like an answer.
func (d *dialer) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		return nil
	}
	return fmt.Errorf("cannot connect to %s, is the proxy running there? (%w)", d.address, d.err)
}

func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, conn := range d.conns {
		_ = conn.Close() // the peer may have been faster
	}
	d.conns = nil
}
