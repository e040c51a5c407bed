package limit

import (
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

// passed returns how many calls in a row a guard lets through, of up to most.
func passed(guard intercept.Guard, most int, call func() *intercept.Call) int {
	for n := range most {
		if guard(call()) != nil {
			return n
		}
	}
	return most
}

func anybody() *intercept.Call { return call("192.0.2.1:1") }

func TestRateOfCalls(t *testing.T) {
	for name, test := range map[string]struct {
		rate         Rate
		burst, later int           // calls that pass at once, and after
		after        time.Duration // that
	}{
		"as many as within the time":  {Rate{Calls: 10}, 10, 1, 100 * time.Millisecond},
		"not sooner than that":        {Rate{Calls: 10}, 10, 0, 99 * time.Millisecond},
		"all again":                   {Rate{Calls: 10}, 10, 10, time.Second},
		"never more than the burst":   {Rate{Calls: 10}, 10, 10, time.Hour},
		"a small burst":               {Rate{Calls: 10, Burst: 2}, 2, 1, 100 * time.Millisecond},
		"a large burst":               {Rate{Calls: 10, Burst: 50}, 50, 10, time.Second},
		"a burst of one":              {Rate{Calls: 10, Burst: 1}, 1, 1, time.Hour},
		"few in a long time":          {Rate{Calls: 2, Per: 24 * time.Hour}, 2, 1, 12 * time.Hour},
		"an interval of no whole ns":  {Rate{Calls: 3}, 3, 3, time.Second},
		"a million in a second":       {Rate{Calls: 1_000_000, Burst: 5}, 5, 2, 2 * time.Microsecond},
		"many in a very short time":   {Rate{Calls: 10, Per: time.Millisecond}, 10, 5, 500 * time.Microsecond},
		"with messages that go apart": {Rate{Calls: 2, Messages: 1}, 2, 2, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				guard, err := NewRate(test.rate)
				require.NoError(t, err)
				time.Sleep(37 * time.Minute)
				require.Equal(t, test.burst, passed(guard, test.burst+1, anybody))
				time.Sleep(test.after)
				require.Equal(t, test.later, passed(guard, test.later+1, anybody))
			})
		})
	}
}

// TestRefusedCallsCostNothing: who keeps trying is not kept out for longer.
func TestRefusedCallsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, err := NewRate(Rate{Calls: 1})
		require.NoError(t, err)
		require.NoError(t, guard(anybody()))
		for range 100 {
			time.Sleep(time.Millisecond)
			require.Error(t, guard(anybody()))
		}
		time.Sleep(900 * time.Millisecond)
		require.NoError(t, guard(anybody()))
	})
}

func TestRefusalSaysWhenToTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, err := NewRate(Rate{Calls: 2, Per: time.Minute, Key: Identity})
		require.NoError(t, err)
		alice := func() *intercept.Call { return identified("jwt", "alice") }
		require.Equal(t, 2, passed(guard, 2, alice))
		time.Sleep(10 * time.Second)
		f := limited(t, guard(alice()))
		require.Equal(t, "the rate limit of 2 calls in 1m0s for each caller is used up; try again in 20s", f.Message)
		wait := retryInfo(t, f).GetRetryDelay().AsDuration()
		require.Equal(t, 20*time.Second, wait)
		time.Sleep(wait - time.Nanosecond)
		limited(t, guard(alice()))
		time.Sleep(time.Nanosecond)
		require.NoError(t, guard(alice()), "the time it was told")
	})
}

func TestRateOfMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, err := NewRate(Rate{Messages: 4, Key: Metadata + "X-Tenant"})
		require.NoError(t, err)
		one, two, other := tenant("a"), tenant("a"), tenant("b")
		for _, c := range []*intercept.Call{one, two, other} {
			require.NoError(t, guard(c))
			require.True(t, c.WantsMessages())
		}
		for range 100 {
			require.NoError(t, one.Message(intercept.Message{Direction: filter.Response}), "those of backends are free")
		}
		for range 2 {
			require.NoError(t, request(one))
			require.NoError(t, request(two))
		}
		f := limited(t, request(one))
		require.Equal(t, `the rate limit of 4 messages in 1s for each value of "x-tenant" is used up; try again in 250ms`, f.Message)
		require.Equal(t, 250*time.Millisecond, retryInfo(t, f).GetRetryDelay().AsDuration())
		require.NoError(t, request(other))
		time.Sleep(250 * time.Millisecond)
		require.NoError(t, request(two))
		limited(t, request(one))
	})
}

func TestCallsWithoutAMessageLimitAreNotLookedInto(t *testing.T) {
	guard, err := NewRate(Rate{Calls: 1})
	require.NoError(t, err)
	c := anybody()
	require.NoError(t, guard(c))
	require.False(t, c.WantsMessages())
}

func TestKeys(t *testing.T) {
	for name, test := range map[string]struct {
		key         string
		same, other []*intercept.Call // with the first of same: those that share its limit, and those that do not
	}{
		"all": {All, []*intercept.Call{call("192.0.2.1:1"), call("192.0.2.2:1"), identified("jwt", "a"), tenant("a")}, nil},
		"identity": {
			Identity,
			[]*intercept.Call{identified("jwt", "a"), identified("jwt", "a")},
			[]*intercept.Call{identified("jwt", "b"), identified("api-key", "a"), identified("jwt", ""), anybody()},
		},
		"nobody": {Identity, []*intercept.Call{call("192.0.2.1:1"), call("192.0.2.2:1"), tenant("a")}, []*intercept.Call{identified("jwt", "a")}},
		"peer": {
			Peer,
			[]*intercept.Call{call("192.0.2.1:1"), call("192.0.2.1:2"), call("[::ffff:192.0.2.1]:3")},
			[]*intercept.Call{call("192.0.2.2:1"), call("[2001:db8::1]:1")},
		},
		"method": {
			Method,
			[]*intercept.Call{callOf("/a.B/C", "192.0.2.1:1"), callOf("/a.B/C", "192.0.2.2:1")},
			[]*intercept.Call{callOf("/a.B/D", "192.0.2.1:1")},
		},
		"metadata": {Metadata + "x-tenant", []*intercept.Call{tenant("a"), tenant("a")}, []*intercept.Call{tenant("A"), tenant(""), tenant("b")}},
		"long metadata": {
			Metadata + "x-tenant",
			[]*intercept.Call{tenant(strings.Repeat("a", 9999)), tenant(strings.Repeat("a", 9999))},
			[]*intercept.Call{tenant(strings.Repeat("a", 9998) + "b")},
		},
		"no metadata": {Metadata + "x-tenant", []*intercept.Call{anybody(), anybody(), tenant("")}, []*intercept.Call{tenant("a")}},
	} {
		t.Run(name, func(t *testing.T) {
			guard, err := NewRate(Rate{Calls: 1, Per: time.Hour, Key: test.key})
			require.NoError(t, err)
			require.NoError(t, guard(test.same[0]))
			for i, c := range test.same[1:] {
				assert.Error(t, guard(c), "same %d", i+1)
			}
			for i, c := range test.other {
				assert.NoError(t, guard(c), "other %d", i)
			}
		})
	}
}

func TestPeersWithoutAnIPAddress(t *testing.T) {
	require.Equal(t, key{}, peerKey(intercept.Begin(nil, intercept.Info{})))
	socket := intercept.Begin(nil, intercept.Info{Peer: &net.UnixAddr{Name: "/run/a", Net: "unix"}})
	require.Equal(t, key{text: "/run/a"}, peerKey(socket))
	local := intercept.Begin(nil, intercept.Info{Peer: &net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}})
	require.Equal(t, "fe80::1", peerKey(local).addr.String())
}

// TestMadeUpKeys: whoever has a new key for each call gets one limit for each key that
// there is room for, and one more; and does not get rid of what others have used up.
func TestMadeUpKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys, calls, attempts = 100, 3, 5000
		r, err := newRate(Rate{Calls: calls, Per: time.Hour, Key: Metadata + "x-tenant", Keys: keys})
		require.NoError(t, err)
		require.Equal(t, calls, passed(r.guard, calls+1, func() *intercept.Call { return tenant("known") }))
		through := 0
		for i := range attempts {
			if r.guard(tenant(fmt.Sprint("made-up-", i))) == nil {
				through++
			}
		}
		require.Equal(t, keys-1+calls, through, "one of each that has room, and the limit that others share")
		limited(t, r.guard(tenant("known")))
		require.Equal(t, keys, size(r.table))

		time.Sleep(time.Hour) // all of it is there again: who comes then finds room
		for i := range attempts / 10 {
			name := fmt.Sprint("honest-", i%(keys/10))
			require.Equal(t, i < calls*keys/10, r.guard(tenant(name)) == nil, name)
		}
		require.Equal(t, keys, size(r.table))
	})
}

func size(t *table) int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		n += len(s.byKey)
		if len(s.ring) != len(s.byKey) {
			panic("the ring is not what is in the map")
		}
	}
	return n
}

// TestRateAtOnce: calls that come together are as many as in a row.
func TestRateAtOnce(t *testing.T) {
	for _, name := range []string{All, Metadata + "x-tenant"} {
		t.Run(name, func(t *testing.T) {
			const calls = 500
			guard, err := NewRate(Rate{Calls: calls, Per: 24 * time.Hour, Key: name})
			require.NoError(t, err)
			var through atomic.Int64
			var callers sync.WaitGroup
			for range 8 {
				callers.Go(func() {
					for range calls {
						if guard(tenant("a")) == nil {
							through.Add(1)
						}
					}
				})
			}
			callers.Wait()
			require.Equal(t, int64(calls), through.Load())
		})
	}
}

func TestRatesThatCannotBe(t *testing.T) {
	for name, test := range map[string]struct {
		rate Rate
		want string
	}{
		"nothing":         {Rate{}, "set calls or messages"},
		"below 0":         {Rate{Calls: -1}, "below 0"},
		"negative time":   {Rate{Calls: 1, Per: -1}, "below 0"},
		"more than ns":    {Rate{Messages: math.MaxInt32, Per: time.Millisecond}, "messages: 2147483647 in 1ms is more than one in a nanosecond"},
		"takes for ever":  {Rate{Calls: 1, Per: 24 * time.Hour, Burst: math.MaxInt32}, "calls: burst: 2147483647 at 1 in 24h0m0s take more than a year"},
		"unknown key":     {Rate{Calls: 1, Key: "user"}, `key: "user" is nothing that calls have in common; write all, identity, peer, method or metadata:KEY`},
		"no metadata key": {Rate{Calls: 1, Key: "metadata:"}, `key: "metadata:"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewRate(test.rate)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func benchmarkGuard(b *testing.B, guard intercept.Guard, c *intercept.Call) {
	b.ReportAllocs()
	for b.Loop() {
		if err := guard(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRate(b *testing.B) {
	for name, c := range map[string]*intercept.Call{
		All: anybody(), Identity: identified("jwt", "alice"), Peer: anybody(), Method: anybody(), Metadata + "x-tenant": tenant("a"),
	} {
		b.Run(name, func(b *testing.B) {
			guard, err := NewRate(Rate{Calls: 900_000_000, Key: name})
			require.NoError(b, err)
			benchmarkGuard(b, guard, c)
		})
	}
	b.Run("refused", func(b *testing.B) {
		guard, err := NewRate(Rate{Calls: 1, Per: 24 * time.Hour})
		require.NoError(b, err)
		require.NoError(b, guard(anybody()))
		c := anybody()
		b.ReportAllocs()
		for b.Loop() {
			_ = guard(c)
		}
	})
	b.Run("a message", func(b *testing.B) {
		guard, err := NewRate(Rate{Messages: 900_000_000, Key: Identity})
		require.NoError(b, err)
		c := identified("jwt", "alice")
		require.NoError(b, guard(c))
		b.ReportAllocs()
		for b.Loop() {
			if err := request(c); err != nil {
				b.Fatal(err)
			}
		}
	})
}
