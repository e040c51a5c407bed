package upstream

import (
	"context"
	"time"
)

// attempt is one attempt to connect that any number of calls wait for.
type attempt struct {
	conn *Conn         // what it makes
	done chan struct{} // closed when the attempt is over
	err  error         // set before done is closed
}

// ended is done, and never for an attempt that there is none of.
func (a *attempt) ended() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.done
}

// wasted reports whether the attempt is over and its connection too, which has
// carried nothing.
func (a *attempt) wasted() bool {
	select {
	case <-a.ended():
		return a.err == nil && a.conn.retired.Load() && a.conn.opened.Load() == 0
	default:
		return false
	}
}

// redialPause is how long an instance that refused a connection is answered
// for from memory, so that a burst of calls is not a burst of dials. Short
// enough for a backend that comes back to be found at once.
const redialPause = 100 * time.Millisecond

// connect starts an attempt to connect, or joins the one under way. It returns
// nil if there are as many connections as there may be, and an error if there
// is no point in trying.
func (in *instance) connect() (*attempt, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.closed:
		return nil, errPoolClosed
	case in.attempt != nil:
		return in.attempt, nil
	case in.connections() >= in.max:
		return nil, nil
	case in.failed != nil && time.Now().Before(in.retryAt):
		return nil, in.failed
	}
	a := &attempt{conn: newConn(in), done: make(chan struct{})}
	in.attempt = a
	in.pool.running.Go(func() { in.run(a) }) // ends within Options.ConnectTimeout
	return a, nil
}

func (in *instance) run(a *attempt) {
	ctx, cancel := context.WithTimeoutCause(in.pool.ctx, in.pool.opts.ConnectTimeout, errConnectTimeout)
	defer cancel()
	t, limit, err := in.pool.dial(ctx, in.address, (*events)(a.conn))
	if err == nil {
		a.conn.begin(t, limit)
	}
	in.settle(a, err)
	if err == nil && a.err != nil {
		t.Close(a.err)
	}
}

// settle takes in how an attempt has ended.
func (in *instance) settle(a *attempt, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.report(err)
	switch {
	case err != nil:
		in.failed, in.retryAt = err, time.Now().Add(redialPause)
	case in.closed:
		err = errPoolClosed
	default:
		in.failed = nil
		in.add(a.conn)
	}
	a.err = err
	close(a.done)
	in.attempt = nil
	in.noteChange()
}

// report logs when the instance goes down and when it is back, once each. It
// needs mu.
func (in *instance) report(err error) {
	log := in.pool.opts.Logger
	switch {
	case err != nil && in.failed == nil && in.pool.ctx.Err() == nil:
		log.Warn("a backend instance cannot be reached", "cluster", in.cluster, "instance", in.address, "error", err)
	case err == nil && in.failed != nil:
		log.Info("a backend instance is back", "cluster", in.cluster, "instance", in.address)
	}
}
