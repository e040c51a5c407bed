package limit

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// ticks are in a nanosecond. Intervals between calls are in ticks, so that they are off
// by 0.003% at most up to a million calls a second; 64 bits of them are 18 years.
const ticks = 16

// maxSpan bounds the time in which a used up limit is full again.
const maxSpan = 365 * 24 * time.Hour

// pace is how fast a bucket fills, and how full it gets.
type pace struct {
	interval int64 // ticks for one
	span     int64 // ticks for a whole bucket
}

// newPace returns that of n in a time, with bursts of up to burst.
func newPace(n int, per time.Duration, burst int) (pace, error) {
	interval := math.Round(float64(per) / float64(n) * ticks)
	span := interval * float64(burst)
	switch {
	case interval < ticks:
		return pace{}, fmt.Errorf("%d in %v is more than one in a nanosecond, which is no limit; write a smaller number", n, per)
	case span > float64(maxSpan)*ticks:
		return pace{}, fmt.Errorf("burst: %d at %d in %v take more than a year to come back; write a smaller number", burst, n, per)
	}
	return pace{int64(interval), int64(span)}, nil
}

// bucket counts by the generic cell rate algorithm (ITU-T I.371, annex A), which is a
// token bucket whose only state is when it is full again. It takes no lock. The zero
// value is full.
type bucket struct{ full atomic.Int64 } // when that is, in ticks

// take takes one, and returns 0, or how long until there is one again.
func (b *bucket) take(p pace, now int64) (wait time.Duration) {
	for {
		was := b.full.Load()
		next := max(was, now) + p.interval
		if over := next - now - p.span; over > 0 {
			return time.Duration((over + ticks - 1) / ticks)
		}
		if b.full.CompareAndSwap(was, next) {
			return 0
		}
	}
}

// isFull reports whether a bucket is as a new one.
func (b *bucket) isFull(now int64) bool { return b.full.Load() <= now }
