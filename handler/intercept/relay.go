package intercept

import (
	"context"
	"runtime/debug"
	"slices"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// What follows is for those who carry calls. All of it may be called for a nil Call,
// which nothing is around, and does nothing then.

// Begin returns the Call of a call that begins, and has told the observers, which may
// be nil. If one panics, Ask, Carry and Run end the call: of that all are told, so that
// the others are told of the beginning, too.
func Begin(o *Observers, info Info) *Call {
	c := &Call{info: info, began: time.Now(), watch: o}
	c.values = c.few[:0]
	c.trailer.Seal()
	if o != nil {
		c.broken = tell(c, o.all, func(one Observer) { one.Begin(c) })
	}
	return c
}

// tell has each observer of a kind told by f, also if another one panics. The error is
// that of the first that does.
func tell[O Observer](c *Call, observers []O, f func(O)) (first error) {
	for told := 0; told < len(observers); {
		err := c.safely("an observer", func() {
			for told < len(observers) {
				told++
				f(observers[told-1])
			}
		})
		if first == nil {
			first = err
		}
	}
	return first
}

// ChangedHeader returns the metadata for the backend as links have left it, and false
// if they have not asked for it. It is to be copied before further links are asked, which
// may change it.
func (c *Call) ChangedHeader() (stream.Metadata, bool) {
	if c == nil || !c.changing {
		return nil, false
	}
	return c.header.Fields(), true
}

// ResponseHeader returns what links have added to the head of the response.
func (c *Call) ResponseHeader() stream.Metadata {
	if c == nil || c.extra() == &none {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clip(c.extra().responses)
}

// Routed notes where the call goes.
func (c *Call) Routed(route, cluster, mode string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.route, c.cluster, c.mode = route, cluster, mode
}

// BeginAttempt notes that the call is sent to an instance. The Attempt is nil if nobody
// wants to know more of it.
func (c *Call) BeginAttempt(clusterName, instance string) *Attempt {
	if c == nil {
		return nil
	}
	n := c.attempts.Add(1)
	c.mu.Lock()
	c.cluster, c.instance = clusterName, instance
	c.mu.Unlock()
	if c.watch == nil || len(c.watch.attempts) == 0 {
		return nil
	}
	a := &c.first
	if n > 1 {
		a = new(Attempt)
	}
	a.call, a.Number, a.Cluster, a.Instance, a.Began = c, int(n), clusterName, instance, time.Now()
	a.Header = a.few[:0]
	_ = tell(c, c.watch.attempts, func(o AttemptObserver) { o.BeginAttempt(c, a) })
	return a
}

// End notes what has come of the attempt, which may be nil.
func (a *Attempt) End(r cluster.Result) {
	if a == nil {
		return
	}
	c := a.call
	a.Result = r
	for _, o := range slices.Backward(c.watch.attempts) {
		_ = c.safely("an observer", func() { o.EndAttempt(c, a) })
	}
}

// WroteHeader tells of the head of a response as it goes to the client.
func (c *Call) WroteHeader(md stream.Metadata) {
	if c == nil || c.watch == nil {
		return
	}
	_ = tell(c, c.watch.headers, func(o HeaderObserver) { o.ResponseHeader(c, md) })
}

// WantsHeader reports whether anybody is to be told by WroteHeader.
func (c *Call) WantsHeader() bool { return c != nil && c.watch != nil && len(c.watch.headers) > 0 }

// WantsMessages reports whether anybody is to be told of single messages.
func (c *Call) WantsMessages() bool {
	return c != nil && (len(c.extra().onMessage) > 0 || c.watch != nil && len(c.watch.messages) > 0)
}

// Message tells of a message that has begun to cross. An error ends the call. It is for
// one goroutine for each direction.
func (c *Call) Message(m Message) error {
	if c == nil {
		return nil
	}
	if c.watch != nil && len(c.watch.messages) > 0 {
		if err := tell(c, c.watch.messages, func(o MessageObserver) { o.Message(c, m) }); err != nil {
			return err
		}
	}
	for _, f := range c.extra().onMessage {
		if err := c.askMessage(f, m.Direction); err != nil {
			return err
		}
	}
	return nil
}

func (c *Call) askMessage(f func(filter.Direction) error, d filter.Direction) error {
	var refused error
	if err := c.safely("a guard", func() { refused = f(d) }); err != nil {
		return err
	}
	return refused
}

// Crossed adds to what has crossed in a direction.
func (c *Call) Crossed(d filter.Direction, messages, bytes int64) {
	if c == nil {
		return
	}
	count := &c.received
	if d == filter.Response {
		count = &c.sent
	}
	count.messages.Add(messages)
	count.bytes.Add(bytes)
}

// End notes how the call has ended, and tells the observers. Only the first call has
// an effect. The trailer must not be changed any more.
func (c *Call) End(t *stream.Trailer) {
	if c == nil || !c.note(t) {
		return
	}
	if c.watch != nil {
		for _, o := range slices.Backward(c.watch.all) {
			_ = c.safely("an observer", func() { o.End(c) })
		}
	}
	for _, f := range slices.Backward(c.extra().onEnd) { // to which nothing is added any more
		_ = c.safely("a function for the end of a call", f)
	}
}

func (c *Call) note(t *stream.Trailer) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.Load() != nil {
		return false
	}
	c.reason, c.took = stream.Reason(t.Metadata.Get(stream.ReasonKey)), time.Since(c.began)
	c.end.Store(t)
	return true
}

// BeginConn returns a connection that begins, once observers have been told. It returns
// nil if none wants to know of connections.
func (o *Observers) BeginConn(c *Conn) *Conn {
	if o == nil || len(o.conns) == 0 {
		return nil
	}
	c.ctx = context.Background()
	for _, one := range o.conns {
		c.tell(func() { one.BeginConn(c) })
	}
	return c
}

// EndConn tells observers that a connection, which may be nil, has ended.
func (o *Observers) EndConn(c *Conn) {
	if c == nil {
		return
	}
	for _, one := range slices.Backward(o.conns) {
		c.tell(func() { one.EndConn(c) })
	}
}

// tell calls f, by which an observer is told. If that panics the connection goes on.
func (c *Conn) tell(f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.Logger.Error("an observer panicked", "peer", c.Remote, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	f()
}
