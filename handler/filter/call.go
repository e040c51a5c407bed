package filter

import (
	"net"
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/metadata"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Metadata is the custom metadata of one side of a call. When it may be changed is
// said with each.
type Metadata = metadata.Metadata

// ErrSent is what changing metadata fails with that is on its way already.
var ErrSent = metadata.ErrSent

// Direction is where messages go.
type Direction uint8

// The directions.
const (
	Request  Direction = iota + 1 // from the client to the backend
	Response                      // from the backend to the client
)

// String returns "request" or "response".
func (d Direction) String() string {
	if d == Request {
		return "request"
	}
	return "response"
}

// Call is the call that a filter is asked about. It belongs to one direction,
// and so to one goroutine at a time, and must not be used after the filter has
// returned.
type Call struct {
	*shared
	direction Direction
	number    int
}

// shared is what both directions of a call see.
type shared struct {
	request *stream.Request
	peer    net.Addr
	cluster string
	route   string
	// affinity is what SetAffinity was given, "" for nothing.
	affinity string

	requestHeader   Metadata
	responseHeader  Metadata
	responseTrailer Metadata

	mu    sync.Mutex // guards state
	state map[any]any
}

// Method returns the full method name, "/package.Service/Method".
func (c *Call) Method() string { return c.request.Method }

// Authority returns the :authority that the client asked for.
func (c *Call) Authority() string { return c.request.Authority }

// Peer returns the client's address.
func (c *Call) Peer() net.Addr { return c.peer }

// Route names the route that the call takes, as "kitexproxy routes" does.
func (c *Call) Route() string { return c.route }

// Cluster returns the name of the cluster that the call is for.
func (c *Call) Cluster() string { return c.cluster }

// SetCluster sends the call to another cluster. As with the RequestHeader, that
// can be done until the call is on its way, and is ErrSent later. A cluster that
// is not configured ends the call with INTERNAL.
func (c *Call) SetCluster(name string) error {
	if c.requestHeader.IsSealed() {
		return ErrSent
	}
	c.cluster = name
	return nil
}

// SetAffinity has the call go to the same instance as others of the same key, as far
// as the instances stay the same, in a cluster with balance: hash. It can be done as
// long as SetCluster can, and is ErrSent later. "" is no key.
func (c *Call) SetAffinity(key string) error {
	if c.requestHeader.IsSealed() {
		return ErrSent
	}
	c.affinity = key
	return nil
}

// Direction returns where the present message goes; at the start of a call it
// is Request, at its headers and its end Response.
func (c *Call) Direction() Direction { return c.direction }

// Number counts the messages that have come in this direction, from 1, the
// present one and those dropped included; 0 when there was none yet.
func (c *Call) Number() int { return c.number }

// Incoming returns the metadata as the client has sent it. It is read-only.
func (c *Call) Incoming() *Metadata { return metadata.ReadOnly(c.request.Metadata) }

// RequestHeader returns the metadata that goes to the backend: at first what
// the client has sent. It can be changed at the start of a call and, where a
// client sends one message only, when that comes; later it is ErrSent.
func (c *Call) RequestHeader() *Metadata { return &c.requestHeader }

// ResponseHeader returns the metadata that the backend's response begins with.
// OnHeader can change it. At the start and for the messages of the request,
// which the response does not wait for, it is empty.
func (c *Call) ResponseHeader() *Metadata { return c.ofResponse(&c.responseHeader) }

// ResponseTrailer returns the metadata that goes to the client with the call's
// status. It is empty until OnEnd, which can change it.
func (c *Call) ResponseTrailer() *Metadata { return c.ofResponse(&c.responseTrailer) }

// ofResponse returns m to the filters of the response, whose goroutine it is for.
func (c *Call) ofResponse(m *Metadata) *Metadata {
	if c.direction == Request {
		m = metadata.ReadOnly(nil)
	}
	return m
}

// Key is the name of a value that the filters of a call share, without
// globals. Each NewKey is different from all others.
type Key[T any] struct{ name string }

// NewKey returns a key. The name is for people.
func NewKey[T any](name string) *Key[T] { return &Key[T]{name: name} }

// String returns the name.
func (k *Key[T]) String() string { return k.name }

// Get returns the call's value, and false if it has none.
func (k *Key[T]) Get(c *Call) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.state[k].(T)
	return v, ok
}

// Set sets the call's value. What it refers to is for the filters of both
// directions to guard.
func (k *Key[T]) Set(c *Call, v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil {
		c.state = make(map[any]any)
	}
	c.state[k] = v
}
