package upstream

import (
	"crypto/tls"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Conn is a connection that Acquire has reserved a stream on. The caller owns
// that stream until it calls Release; the connection is the pool's. The methods
// may be called concurrently.
type Conn struct {
	in        *instance
	tls       *tls.Config // of the instance, when it was dialed
	transport Transport   // set before the connection is listed
	since     time.Time   // as well: when that was
	jitter    float64     // what makes it age faster than others: 0 to 1

	// streams counts the reserved streams, limit is how many the backend
	// allows, limitUnknown before anybody has said.
	streams atomic.Int64
	limit   atomic.Int64
	// retired is true once it takes no new streams. It is set with in.mu held.
	retired atomic.Bool
	// opened is how many streams there have been.
	opened atomic.Int64
	// lastUse is when the last stream ended, in nanoseconds since 1970.
	lastUse atomic.Int64

	over bool // Closed has been told; needs in.mu
}

const limitUnknown = -1

// maxStreamsOpened is how many streams a connection carries in its life. Stream
// numbers are odd and end at 2^31 (RFC 9113 section 5.1.1); not every transport
// sees them end.
const maxStreamsOpened = 1 << 29

// newConn needs the instance's mu.
func newConn(in *instance) *Conn {
	c := &Conn{in: in, tls: in.tls, jitter: rand.Float64()}
	c.limit.Store(limitUnknown)
	c.lastUse.Store(time.Now().UnixNano())
	return c
}

// begin takes in what Dial has returned. A limit that was told before is newer.
func (c *Conn) begin(t Transport, limit int64) {
	c.transport, c.since = t, time.Now()
	c.limit.CompareAndSwap(limitUnknown, limit)
	c.in.usualLimit.Store(c.limit.Load())
}

// Transport returns what Dial made.
func (c *Conn) Transport() Transport { return c.transport }

// Release gives back what Acquire has reserved, once for each.
func (c *Conn) Release() {
	c.lastUse.Store(time.Now().UnixNano())
	c.streams.Add(-1)
	c.in.wake()
}

// Retire takes the connection out of use: it gets no new streams, those it has
// go on, and it is closed when they have ended. It may be called again.
func (c *Conn) Retire() {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.lose(c)
}

// most is how many streams the connection may carry, of which the cluster's rule
// is limit.
func (c *Conn) most(limit int64) int64 { return min(limit, c.limit.Load()) }

// listed reports whether the instance has it among those that have not ended. It
// needs the instance's mu.
func (c *Conn) listed(in *instance) bool {
	_, listed := in.all[c]
	return listed
}

// reserve counts a stream in, unless the connection takes none; limit is the
// cluster's. The count never exceeds what is allowed, not even for a moment: a call that saw it would wait for a
// release that nobody makes.
func (c *Conn) reserve(limit int64) bool {
	for {
		n := c.streams.Load()
		if n >= c.most(limit) {
			return false
		}
		if c.streams.CompareAndSwap(n, n+1) {
			break
		}
	}
	// Only now: the sweeper closes a connection that it finds retired first and
	// then without streams.
	if c.retired.Load() {
		c.streams.Add(-1)
		return false
	}
	if c.opened.Add(1) == maxStreamsOpened {
		c.Retire()
	}
	return true
}

// maxJitter is the part of its time to live that a connection may have less than
// another one, so that those that were opened together do not go together.
const maxJitter = 0.2

// expired reports whether the connection is older than ttl (0: never), or nearly.
func (c *Conn) expired(ttl time.Duration) bool {
	return ttl > 0 && time.Since(c.since) > ttl-time.Duration(float64(ttl)*maxJitter*c.jitter)
}

// idleFor reports whether the connection has been without a stream for that long.
func (c *Conn) idleFor(d time.Duration) bool {
	return c.streams.Load() == 0 && time.Since(c.idleSince()) > d
}

func (c *Conn) idleSince() time.Time { return time.Unix(0, c.lastUse.Load()) }

// events is the side of a Conn that its transport is shown.
type events Conn

var _ Events = (*events)(nil)

func (e *events) Retired() { (*Conn)(e).Retire() }

func (e *events) Limit(n int64) {
	e.limit.Store(n)
	e.in.usualLimit.Store(n)
	e.in.wake() // it may have grown
}

func (e *events) Closed() { e.in.forget((*Conn)(e)) }
