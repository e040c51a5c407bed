package cluster

import "sync/atomic"

// periods is how many parts a sliding interval has: what counts goes back for
// nine tenths of it to all of it.
const periods = 10

// window counts calls, and failures among them, within the last periods. Its zero
// value has counted none. It may be used concurrently, without a lock.
type window struct {
	// buckets are for one period each, by its number modulo periods. Each packs
	// the lower 24 bits of the number, and 20 bits each for failures and calls.
	buckets [periods]atomic.Uint64
}

const (
	countBits  = 20
	countMask  = 1<<countBits - 1
	periodMask = 1<<(64-2*countBits) - 1
)

func pack(period, failed, calls uint64) uint64 {
	return period&periodMask<<(2*countBits) | failed<<countBits | calls
}

func unpack(b uint64) (period, failed, calls uint64) {
	return b >> (2 * countBits), b >> countBits & countMask, b & countMask
}

// add counts a call.
func (w *window) add(period uint64, hasFailed bool) {
	bucket := &w.buckets[period%periods]
	for {
		old := bucket.Load()
		of, failed, calls := unpack(old)
		if of != period&periodMask {
			failed, calls = 0, 0
		}
		if calls == countMask { // there is no room for more: the share stays
			failed, calls = failed/2, calls/2
		}
		if hasFailed {
			failed++
		}
		if bucket.CompareAndSwap(old, pack(period, failed, calls+1)) {
			return
		}
	}
}

// sum returns how many calls there were up to a period, and failures among them.
func (w *window) sum(period uint64) (calls, failed int64) {
	for i := range w.buckets {
		of, f, n := unpack(w.buckets[i].Load())
		if (period-of)&periodMask < periods {
			calls += int64(n)
			failed += int64(f)
		}
	}
	return calls, failed
}

// clear forgets all calls.
func (w *window) clear() {
	for i := range w.buckets {
		w.buckets[i].Store(0)
	}
}
