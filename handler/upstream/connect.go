package upstream

import (
	"context"
	"slices"
	"time"
)

// attempt is one attempt to connect.
type attempt struct {
	conn *Conn // what it makes
	// replaces is the connection that this one is to take the place of, nil for
	// one that is added.
	replaces *Conn
}

// adds reports whether the attempt leads to one more connection.
func (a *attempt) adds() bool { return a.replaces == nil || a.replaces.retired.Load() }

// redialPause is how long an instance that refused a connection is answered
// for from memory, so that a burst of calls is not a burst of dials. Short
// enough for a backend that comes back to be found at once.
const redialPause = 100 * time.Millisecond

// expand opens as many connections as the calls in the line need, side by side.
// The error says why there is no point in it now. It needs mu.
func (in *instance) expand() error {
	if err := in.mayDial(); err != nil {
		return err
	}
	for range in.lacking() {
		in.dial(nil)
	}
	return nil
}

// widen opens one connection more, unless one is on its way.
func (in *instance) widen() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.mayDial() == nil && in.adding() == 0 && in.vacancies() > 0 {
		in.dial(nil)
	}
}

// replace opens a connection that is to take the place of c, unless there is one
// on its way that is to do so for this or another. It needs mu.
func (in *instance) replace(c *Conn) {
	if in.mayDial() == nil && in.adding() == len(in.attempts) {
		in.dial(c)
	}
}

// mayDial returns why there is no point in an attempt now, nil if there is. It
// needs mu.
func (in *instance) mayDial() error {
	switch {
	case in.closed:
		return errPoolClosed
	case in.removed:
		return errForgotten
	case in.failed != nil && time.Now().Before(in.retryAt):
		return in.failed
	}
	return nil
}

// lacking is how many connections are to be opened for the calls in the line, as
// far as there may be more. It needs mu.
func (in *instance) lacking() int {
	missing := int64(len(in.line)) - in.room()
	if missing <= 0 {
		return 0
	}
	each := in.usualRoom()
	return min(int((missing+each-1)/each)-in.adding(), in.vacancies())
}

// room is how many of the calls in the line find room as it is. It needs mu.
func (in *instance) room() int64 {
	limit, line := in.cluster.options.Load().streams(), int64(len(in.line))
	n := int64(0)
	for _, c := range in.readyConns() {
		n += min(line, max(0, c.most(limit)-c.streams.Load()))
	}
	return n
}

// usualRoom is how many calls a new connection is counted on to take: fewer than
// it may, for those that are busy are not all of them to get busier.
func (in *instance) usualRoom() int64 {
	return max(1, min(busyStreams, in.cluster.options.Load().streams(), in.usualLimit.Load()))
}

// vacancies is how many connections may be added. It needs mu.
func (in *instance) vacancies() int {
	return in.cluster.options.Load().connections() - in.connections() - in.adding()
}

// adding is how many connections are on their way that do not take another one's
// place. It needs mu.
func (in *instance) adding() int {
	n := 0
	for _, a := range in.attempts {
		if a.adds() {
			n++
		}
	}
	return n
}

// dial starts an attempt, after mayDial. It needs mu.
func (in *instance) dial(replaces *Conn) {
	a := &attempt{conn: newConn(in), replaces: replaces}
	in.attempts = append(in.attempts, a)
	in.dials++
	in.pool.running.Go(func() { in.run(a) }) // ends within Options.ConnectTimeout
}

func (in *instance) run(a *attempt) {
	ctx, cancel := context.WithTimeoutCause(in.pool.ctx, in.pool.opts.ConnectTimeout, errConnectTimeout)
	defer cancel()
	t, limit, err := in.pool.dial(ctx, Peer{Address: in.address, TLS: a.conn.tls}, (*events)(a.conn))
	if err == nil {
		a.conn.begin(t, limit)
	}
	if unwanted := in.settle(a, err); unwanted != nil && err == nil {
		t.Close(unwanted)
	}
}

// settle takes in how an attempt has ended. A connection that is not wanted any
// more is left to the caller, with the reason.
func (in *instance) settle(a *attempt, err error) (unwanted error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.attempts = slices.DeleteFunc(in.attempts, func(other *attempt) bool { return other == a })
	in.report(err)
	switch {
	case err != nil:
		in.failures++
		in.failed, in.retryAt = err, time.Now().Add(redialPause)
	case in.closed:
		unwanted = errPoolClosed
	default:
		in.failed = nil
		in.add(a)
	}
	in.noteChange()
	return unwanted
}

// add lists a new connection. Its transport may have told of its end already:
// one that is over is not listed at all, one that is retired is only watched, and
// neither takes another one's place. It needs mu.
func (in *instance) add(a *attempt) {
	c := a.conn
	if !c.over {
		in.all[c] = struct{}{}
	}
	switch {
	case c.over || c.retired.Load():
		in.wasted++
	case c.tls != in.tls:
		c.retired.Store(true) // it is of before a change
	default:
		if a.replaces != nil {
			in.leaveReady(a.replaces)
		}
		in.setReady(append(in.list(), c))
	}
}

// report logs when the instance goes down and when it is back, once each. It
// needs mu.
func (in *instance) report(err error) {
	log := in.pool.opts.Logger
	switch {
	case err != nil && in.failed == nil && in.pool.ctx.Err() == nil:
		log.Warn("a backend instance cannot be reached", "cluster", in.cluster.name, "instance", in.address, "error", err)
	case err == nil && in.failed != nil:
		log.Info("a backend instance is back", "cluster", in.cluster.name, "instance", in.address)
	}
}
