package h2

import "time"

// A stream's window has to hold what is on its way for a round trip, or the
// sender waits for credit: 12.5 MB at 1 Gbit/s and 100 ms. Windows of that size
// for every stream would be memory for every stream that nobody reads. So they
// start small. Once something of a stream has been taken it gets the usual
// window, and from then on one grows when its sender has used most of it within
// one round trip, and nothing of it had to wait for the receiver: then it is the
// window that held the sender back.

// usualWindow is the window of streams whose receiver takes what comes.
const usualWindow = 128 << 10

// widen gives a stream of which something has been taken the usual window. It
// needs mu.
func (s *Stream) widen() {
	if usual := min(usualWindow, s.limit); s.window < usual {
		s.credited += usual - s.window
		s.window = usual
	}
}

// growth measures one stream at a time: what comes on it between a PING and its
// answer, which is a round trip.
type growth struct {
	s       *Stream // being measured, nil for none
	last    time.Time
	pinging bool
}

// growthInterval is the least time between two measurements on a connection.
const growthInterval = 10 * time.Millisecond

var growthPing = [8]byte{'r', 'o', 'u', 'n', 'd', 't', 'r', 'p'}

// measure begins a measurement of s, if it may grow and none is under way. It
// needs mu.
func (c *Conn) measure(s *Stream) {
	if c.growth.pinging || s.window >= s.limit {
		return
	}
	now := time.Now()
	if now.Sub(c.growth.last) < growthInterval {
		return
	}
	c.growth = growth{s: s, last: now, pinging: true}
	s.round, s.waited = 0, false
	c.seal()
	c.out = appendPing(c.out, 0, growthPing[:])
}

// measured doubles the window of the stream that has been measured, if it has
// used two thirds of it. It needs mu.
func (c *Conn) measured() {
	s := c.growth.s
	c.growth.s, c.growth.pinging = nil, false
	if s == nil || s.gone || s.waited || s.round < s.window*2/3 {
		return
	}
	if more := min(s.window, s.limit-s.window); more > 0 {
		s.window += more
		s.announce(more)
	}
}
