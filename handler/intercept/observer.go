package intercept

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// Observer is told of calls. It is called by goroutines that have other things to do,
// concurrently for different calls: it must not block. If it panics that is logged, and
// ends the call as this or a message of it begins, and nothing else. What it wants to know in more
// detail it says by implementing AttemptObserver, HeaderObserver, MessageObserver or
// ConnObserver, too. Calls of services that a Kitex server has registered itself are
// not the proxy's, and nobody is told of them.
type Observer interface {
	// Begin is called as a call begins, before any link.
	Begin(c *Call)
	// End is called once, when c's Outcome is known, and before the client is told.
	// Nothing else is called for c after it, but for the end of attempts.
	End(c *Call)
}

// AttemptObserver is told of each time that a call is sent to an instance. The attempts
// of a call may overlap (hedging).
type AttemptObserver interface {
	Observer
	// BeginAttempt may add to a's Header.
	BeginAttempt(c *Call, a *Attempt)
	EndAttempt(c *Call, a *Attempt)
}

// HeaderObserver is told of the head of the response, if there is one that is not the
// end as well.
type HeaderObserver interface {
	Observer
	// ResponseHeader gets the metadata as it goes to the client; it is read-only, and
	// not to be kept.
	ResponseHeader(c *Call, md stream.Metadata)
}

// MessageObserver is told of each message that begins to cross, concurrently for the two
// directions.
type MessageObserver interface {
	Observer
	Message(c *Call, m Message)
}

// ConnObserver is told of the connections of clients.
type ConnObserver interface {
	Observer
	// BeginConn may replace the connection's context.
	BeginConn(c *Conn)
	EndConn(c *Conn)
}

// Attempt is one time that a call is sent to an instance.
type Attempt struct {
	// Number counts the attempts of the call, from 1.
	Number int
	// Cluster and Instance are where it goes.
	Cluster, Instance string
	// Began is when.
	Began time.Time
	// Header is set in the metadata for the instance, in place of what there is of the
	// same keys. Observers add to it as the attempt begins.
	Header stream.Metadata
	// Result is what has come of it, once it has ended.
	Result cluster.Result

	call  *Call
	state []value
	few   [2]stream.Field // what Header begins with, to have no allocation for them
}

// SetHeader returns md with what Header sets, in memory of its own.
func (a *Attempt) SetHeader(md stream.Metadata) stream.Metadata {
	changed := make(stream.Metadata, 0, len(md)+len(a.Header))
	for _, f := range md {
		if !slices.ContainsFunc(a.Header, func(set stream.Field) bool { return set.Key == f.Key }) {
			changed = append(changed, f)
		}
	}
	return append(changed, a.Header...)
}

// State returns what SetState has kept under key, nil for nothing.
func (a *Attempt) State(key any) any {
	for _, v := range a.state {
		if v.key == key {
			return v.value
		}
	}
	return nil
}

// SetState keeps a value with the attempt, as it begins.
func (a *Attempt) SetState(key, v any) { a.state = append(a.state, value{key, v}) }

// Message is one message that crosses.
type Message struct {
	Direction filter.Direction
	// Compressed is its flag, and Length its bytes without the prefix.
	Compressed bool
	Length     int
}

// Conn is a connection of a client.
type Conn struct {
	Local, Remote net.Addr
	// Logger is told of observers that panic. It must be set.
	Logger *slog.Logger

	ctx context.Context
}

// Context returns what observers have made of the connection's context.
func (c *Conn) Context() context.Context { return c.ctx }

// SetContext replaces Context, by one made from it. It is for observers, as the
// connection begins.
func (c *Conn) SetContext(ctx context.Context) { c.ctx = ctx }

// Observers are those of a proxy. nil is none. Its methods may be called concurrently.
type Observers struct {
	all      []Observer
	attempts []AttemptObserver
	headers  []HeaderObserver
	messages []MessageObserver
	conns    []ConnObserver
}

// NewObservers returns observers as one, nil if there are none. They are told in this
// order, and of the end of something in the opposite one.
func NewObservers(observers ...Observer) *Observers {
	if len(observers) == 0 {
		return nil
	}
	o := &Observers{all: observers}
	for _, one := range observers {
		if a, ok := one.(AttemptObserver); ok {
			o.attempts = append(o.attempts, a)
		}
		if h, ok := one.(HeaderObserver); ok {
			o.headers = append(o.headers, h)
		}
		if m, ok := one.(MessageObserver); ok {
			o.messages = append(o.messages, m)
		}
		if c, ok := one.(ConnObserver); ok {
			o.conns = append(o.conns, c)
		}
	}
	return o
}
