package cluster

import (
	"fmt"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
)

// ejection is what is known of the times that an instance was out.
type ejection struct {
	ejectedUntil time.Time // zero: it is not out
	reason       string    // of the last time
	back         time.Time // when that was over
	times        int       // how many times For the next one is longer
	ejections    int64     // so far
}

// maxTimes is how many times For an instance is out at most.
const maxTimes = 10

func (x *ejection) ejected() bool { return !x.ejectedUntil.IsZero() }

// begin takes the instance out: longer each time, and less so again for each For
// that it has done well.
func (x *ejection) begin(now time.Time, cfg *conf.Eject, why cause) time.Duration {
	lasts := time.Duration(cfg.For)
	if x.times > 0 {
		x.times -= int(min(now.Sub(x.back)/lasts, maxTimes))
	}
	x.times = min(max(x.times, 0)+1, maxTimes)
	lasts *= time.Duration(x.times)
	x.ejectedUntil, x.reason = now.Add(lasts), why.String()
	x.ejections++
	return lasts
}

// cause is why an instance is taken out.
type cause struct {
	inRow         int64         // failures; 0 if the others are set
	failed, calls int64         // how many of how many
	within        time.Duration // what time
}

func (c cause) String() string {
	if c.inRow > 0 {
		return fmt.Sprintf("failures in a row: %d", c.inRow)
	}
	return fmt.Sprintf("failures within %v: %d of %d calls", c.within, c.failed, c.calls)
}

func (e *Endpoint) succeeded() {
	if e.failures.Load() != 0 { // most calls need not write
		e.failures.Store(0)
	}
	if cfg := e.cluster.eject; cfg.FailurePercent > 0 {
		e.recent.add(e.period(), false)
	}
}

func (e *Endpoint) failed() {
	cfg := e.cluster.eject
	inRow := e.failures.Add(1)
	why := cause{within: time.Duration(cfg.Interval)}
	if cfg.FailurePercent > 0 {
		period := e.period()
		e.recent.add(period, true)
		why.calls, why.failed = e.recent.sum(period)
	}
	switch {
	case cfg.Consecutive > 0 && inRow >= int64(cfg.Consecutive):
		why.inRow = inRow
	case why.calls < int64(cfg.MinCalls) || why.failed*100 < why.calls*int64(cfg.FailurePercent):
		return
	}
	e.eject(why)
}

// period is where in the sliding interval the present is.
func (e *Endpoint) period() uint64 {
	return uint64(time.Since(e.cluster.begun) / (time.Duration(e.cluster.eject.Interval) / periods))
}

// eject takes the instance out, if as many may be.
func (e *Endpoint) eject(why cause) {
	var lasts time.Duration
	e.cluster.change(func(now time.Time) bool {
		if !e.mayBeEjected() {
			return false
		}
		lasts = e.begin(now, e.cluster.eject, why)
		e.forget()
		return true
	})
	if lasts > 0 {
		e.cluster.log.Warn("a backend instance is taken out, as its calls fail",
			"cluster", e.cluster.name, "instance", e.address, "reason", why.String(), "for", lasts)
	}
}

// mayBeEjected needs the cluster's mu.
func (e *Endpoint) mayBeEjected() bool {
	if !e.present || e.weight == 0 || e.ejected() {
		return false
	}
	var out, all int
	for _, other := range e.cluster.all {
		if other.weight > 0 {
			all++
		}
		if other.weight > 0 && other.ejected() {
			out++
		}
	}
	allowed := max(1, all*e.cluster.eject.MaxPercent/100)
	return all > 1 && out < allowed
}

// readmit brings the instance back, with a clean sheet. It needs the cluster's mu.
func (e *Endpoint) readmit(now time.Time) {
	e.ejectedUntil, e.back = time.Time{}, now
	e.warmUp(now)
	e.forget() // also what calls have brought that were still under way
}

// forget has earlier failures count no more.
func (e *Endpoint) forget() {
	e.failures.Store(0)
	e.recent.clear()
}
