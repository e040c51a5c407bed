package intercept

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/metadata"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Call is one call as links and observers see it. It must not be used once the call has
// ended, but for what observers of the end are told it for.
//
// Links have it to themselves until they let the call go on; what may be changed later
// says so. Its figures (Received, Sent, Attempts) may be read at any time.
type Call struct {
	info  Info
	began time.Time
	watch *Observers // nil for none

	header  metadata.Metadata // for the backend
	trailer metadata.Metadata // of the response
	ctx     context.Context   // what observers have made of the connection's; nil for none
	broken  error             // how the call ends because an observer has panicked as it began; nil for not at all

	// What becomes known on the way. A call that is ended from elsewhere is told of while
	// an interceptor may still be at work.
	mu        sync.Mutex
	route     string
	cluster   string
	mode      string
	instance  string
	identity  Identity
	requestID string
	traceID   string
	values    []value
	few       [2]value               // what values begin with, to have no allocation for them
	extras    atomic.Pointer[extras] // nil for none; see extra
	reason    stream.Reason          // of the end, as is what follows; not changed once there is end
	took      time.Duration
	end       atomic.Pointer[stream.Trailer] // nil before the end

	first          Attempt // to have no allocation for the usual one
	attempts       atomic.Int32
	changing       bool // header has been begun
	received, sent counter
}

// extras are what few calls have: all others need no memory for it.
type extras struct {
	onMessage []func(filter.Direction) error
	// What follows is guarded by the call's mu.
	responses stream.Metadata // added to the head of the response
	onEnd     []func()
	failure   *stream.Failure // of Failed; nil for none
}

// none is the extras of a call that has none. It is not changed.
var none extras

// extra returns the extras, to be read.
func (c *Call) extra() *extras {
	if e := c.extras.Load(); e != nil {
		return e
	}
	return &none
}

// makeExtra returns the extras, to be changed. It needs mu.
func (c *Call) makeExtra() *extras {
	if c.extras.Load() == nil {
		c.extras.Store(new(extras))
	}
	return c.extras.Load()
}

// Info is what is known of a call as it begins.
type Info struct {
	// Request is what the client has sent. Nothing of it is changed.
	Request *stream.Request
	// Peer is the client's address.
	Peer net.Addr
	// TLS is the state of its connection, nil for plaintext.
	TLS *tls.ConnectionState
	// Listener is the address of the listener as the configuration has it, "" for a
	// server that is not the proxy's.
	Listener string
	// Conn is the client's connection, nil if nobody is told of connections.
	Conn *Conn
	// Logger gets what has no client to go to. It must be set.
	Logger *slog.Logger
}

// Identity is who makes a call, as far as a link has found out.
type Identity struct {
	// Kind is how it is known: "api-key", "jwt", "mtls", or what a link of one's own
	// says. "" for nobody.
	Kind string
	// Name is who it is.
	Name string
	// Claims is what a token says of it, nil for none. It is read-only.
	Claims map[string]any
}

// Outcome is how a call has ended.
type Outcome struct {
	Status stream.Status
	// Reason is why the proxy has ended the call, "" for a backend's status.
	Reason stream.Reason
	// Took is the time from the request's head to the end.
	Took time.Duration
	// Trailer is the metadata that went with the status.
	Trailer stream.Metadata
}

// Count is what has crossed in one direction.
type Count struct {
	Messages int64
	Bytes    int64 // with the prefixes of messages, as they cross the wire
}

type counter struct{ messages, bytes atomic.Int64 }

func (c *counter) count() Count { return Count{Messages: c.messages.Load(), Bytes: c.bytes.Load()} }

// Method returns the full method name, "/package.Service/Method".
func (c *Call) Method() string { return c.info.Request.Method }

// Authority returns the :authority that the client asks for.
func (c *Call) Authority() string { return c.info.Request.Authority }

// Peer returns the client's address.
func (c *Call) Peer() net.Addr { return c.info.Peer }

// TLS returns the state of the client's connection, nil for plaintext.
func (c *Call) TLS() *tls.ConnectionState { return c.info.TLS }

// Listener returns the address of the listener as the configuration has it.
func (c *Call) Listener() string { return c.info.Listener }

// Conn returns the client's connection, nil if no observer is told of connections.
func (c *Call) Conn() *Conn { return c.info.Conn }

// Began returns when the head of the request was there.
func (c *Call) Began() time.Time { return c.began }

// Request returns what the client has sent. It is read-only.
func (c *Call) Request() *stream.Request { return c.info.Request }

// Incoming returns the metadata as the client has sent it. It is read-only.
func (c *Call) Incoming() *metadata.Metadata { return metadata.ReadOnly(c.info.Request.Metadata) }

// Header returns the metadata that goes to the backend: at first what the client has
// sent. Links may change it until they let the call go on.
func (c *Call) Header() *metadata.Metadata {
	if !c.changing {
		c.changing = true
		c.header.Begin(slices.Clone(c.info.Request.Metadata))
	}
	return &c.header
}

// AddResponseHeader adds to the metadata that the response begins with. Links may do
// so until they let the call go on. The error names a key or value that metadata cannot
// have.
func (c *Call) AddResponseHeader(key string, values ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.makeExtra()
	var m metadata.Metadata
	m.Begin(e.responses)
	err := m.Add(key, values...)
	e.responses = m.Fields()
	return err
}

// Trailer returns the metadata that goes to the client with the call's status, the
// backend's included. Interceptors may change it once next has returned; it is empty
// before.
func (c *Call) Trailer() *metadata.Metadata { return &c.trailer }

// Identity returns who makes the call, the zero value for nobody known.
func (c *Call) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// SetIdentity says who makes the call. It is for links.
func (c *Call) SetIdentity(id Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identity = id
}

// RequestID returns what a link has said with SetRequestID.
func (c *Call) RequestID() string { return c.text(&c.requestID) }

// SetRequestID says what logs call the call. It is for links.
func (c *Call) SetRequestID(id string) { c.setText(&c.requestID, id) }

// TraceID returns the trace that the call is part of, in hexadecimal, "" for none.
func (c *Call) TraceID() string { return c.text(&c.traceID) }

// SetTraceID says which trace the call is part of. It is for observers, as the call
// begins.
func (c *Call) SetTraceID(id string) { c.setText(&c.traceID, id) }

// OnEnd has f called when the call has ended, once, by whoever ends it: f must not
// block. It is for links and observers, as the call begins. For a call that has been
// ended from elsewhere meanwhile f is called at once.
func (c *Call) OnEnd(f func()) {
	if !c.keepForEnd(f) {
		c.safely("a function for the end of a call", f)
	}
}

// keepForEnd reports false if the call has ended.
func (c *Call) keepForEnd(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.Load() == nil {
		e := c.makeExtra()
		e.onEnd = append(e.onEnd, f)
	}
	return c.end.Load() == nil
}

// OnMessage has f asked about each message that begins to cross, in either direction,
// concurrently for the two: f must not block. An error ends the call as a Guard's does.
// It is for links.
func (c *Call) OnMessage(f func(d filter.Direction) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.makeExtra()
	e.onMessage = append(e.onMessage, f)
}

// Route names the route that the call takes, "" before it is known, and if none does.
func (c *Call) Route() string { return c.text(&c.route) }

// Cluster returns the name of the cluster that the call is for, "" before it is known.
func (c *Call) Cluster() string { return c.text(&c.cluster) }

// ModeHTTP is the Mode of a request for a function that is no gRPC method.
const ModeHTTP = "http"

// Mode returns "frame", "struct", "dynamic" or ModeHTTP, "" before it is known.
func (c *Call) Mode() string { return c.text(&c.mode) }

// Instance returns the address of the last instance that has been tried, "" for none.
func (c *Call) Instance() string { return c.text(&c.instance) }

// Known is what has become known of a call, at one moment.
type Known struct {
	Route, Cluster, Mode, Instance string
	Identity                       Identity
	RequestID, TraceID             string
}

// Known returns what is known of the call, for those who want all of it.
func (c *Call) Known() Known {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Known{c.route, c.cluster, c.mode, c.instance, c.identity, c.requestID, c.traceID}
}

func (c *Call) text(s *string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *s
}

func (c *Call) setText(s *string, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*s = to
}

// Attempts returns how often the call has been sent to an instance.
func (c *Call) Attempts() int { return int(c.attempts.Load()) }

// Received returns what has come from the client.
func (c *Call) Received() Count { return c.received.count() }

// Sent returns what has gone to the client.
func (c *Call) Sent() Count { return c.sent.count() }

// Outcome returns how the call has ended. It is set when observers are told of the end.
func (c *Call) Outcome() Outcome {
	end := c.end.Load()
	if end == nil {
		return Outcome{}
	}
	return Outcome{Status: end.Status, Reason: c.reason, Took: c.took, Trailer: end.Metadata}
}

// value is what an observer or a link keeps with a call.
type value struct{ key, value any }

// Value returns what SetValue has kept under key, nil for nothing. Keys are compared as
// those of contexts are.
func (c *Call) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.values {
		if v.key == key {
			return v.value
		}
	}
	return nil
}

// SetValue keeps a value with the call.
func (c *Call) SetValue(key, v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.values {
		if c.values[i].key == key {
			c.values[i].value = v
			return
		}
	}
	c.values = append(c.values, value{key, v})
}

// Context returns the values that observers have put into the call's context. It ends
// with nothing: interceptors, directors and filters get one that has them and ends with
// the call.
func (c *Call) Context() context.Context {
	switch {
	case c.ctx != nil:
		return c.ctx
	case c.info.Conn != nil:
		return c.info.Conn.Context()
	default:
		return context.Background()
	}
}

// SetContext replaces Context, by one made from it. It is for observers, as the call
// begins.
func (c *Call) SetContext(ctx context.Context) { c.ctx = ctx }

// safely calls f, which somebody else has written. If that panics it is logged as who's,
// and the error is a *stream.Failure: nobody but the call is to suffer.
func (c *Call) safely(who string, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = c.panicked(who, p)
		}
	}()
	f()
	return nil
}

// panicked logs that somebody has panicked for the call, and returns how the call ends.
func (c *Call) panicked(who string, p any) *stream.Failure {
	c.info.Logger.Error(who+" panicked", "method", c.Method(), "panic", p, "stack", string(debug.Stack()))
	return &stream.Failure{
		Reason: stream.ProxyInternal, Code: stream.Internal,
		Message: fmt.Sprintf("%s: internal error", c.Method()),
	}
}
