package limit

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

func TestConcurrency(t *testing.T) {
	for _, name := range []string{All, Metadata + "x-tenant"} {
		t.Run(name, func(t *testing.T) {
			guard, err := NewConcurrency(Concurrency{Calls: 2, Key: name})
			require.NoError(t, err)
			one, two, three := tenant("a"), tenant("a"), tenant("a")
			require.NoError(t, guard(one))
			require.NoError(t, guard(two))
			f := limited(t, guard(three))
			require.Contains(t, f.Message, "the limit of 2 calls at once for ")
			require.Nil(t, f.Details, "nobody knows when to try again")
			end(three)
			limited(t, guard(tenant("a"))) // which has given nothing back
			end(one, one)
			require.NoError(t, guard(tenant("a")))
			limited(t, guard(tenant("a"))) // the second end has given nothing back
		})
	}
}

func TestConcurrencyOfKeys(t *testing.T) {
	guard, err := NewConcurrency(Concurrency{Calls: 1, Key: Identity})
	require.NoError(t, err)
	require.NoError(t, guard(identified("jwt", "a")))
	require.NoError(t, guard(identified("jwt", "b")))
	require.NoError(t, guard(identified("mtls", "a")))
	limited(t, guard(identified("jwt", "a")))
}

// TestConcurrencyOfMadeUpKeys: keys that find no room share a limit, and find room when
// others have ended.
func TestConcurrencyOfMadeUpKeys(t *testing.T) {
	const keys, calls = 10, 2
	guard, err := NewConcurrency(Concurrency{Calls: calls, Key: Metadata + "x-tenant", Keys: keys})
	require.NoError(t, err)
	var through []*intercept.Call
	for i := range 100 {
		if c := tenant(fmt.Sprint("made-up-", i)); guard(c) == nil {
			through = append(through, c)
		}
	}
	require.Len(t, through, keys+calls)
	require.NoError(t, guard(tenant("made-up-0")), "it is there, and has one call more")
	end(through...)
	for i := range keys - 1 {
		name := fmt.Sprint("honest-", i)
		require.NoError(t, guard(tenant(name)))
		require.NoError(t, guard(tenant(name)))
		limited(t, guard(tenant(name)))
	}
}

// TestConcurrencyAtOnce: there are never more calls than may be, and in the end none.
func TestConcurrencyAtOnce(t *testing.T) {
	for _, name := range []string{All, Metadata + "x-tenant"} {
		t.Run(name, func(t *testing.T) {
			const limit = 3
			guard, err := NewConcurrency(Concurrency{Calls: limit, Key: name, Keys: 1})
			require.NoError(t, err)
			var now, through atomic.Int64
			var callers sync.WaitGroup
			for range 8 {
				callers.Go(func() {
					for range 1000 {
						c := tenant("a")
						if guard(c) == nil {
							through.Add(1)
							if now.Add(1) > limit {
								panic("there are more calls than may be")
							}
							now.Add(-1)
						}
						end(c)
					}
				})
			}
			callers.Wait()
			require.GreaterOrEqual(t, through.Load(), int64(limit))
			for range limit {
				require.NoError(t, guard(tenant("a")))
			}
			limited(t, guard(tenant("a")))
		})
	}
}

func TestConcurrencyThatCannotBe(t *testing.T) {
	_, err := NewConcurrency(Concurrency{})
	require.EqualError(t, err, "calls: at least 1 must be allowed")
	_, err = NewConcurrency(Concurrency{Calls: 1, Key: "x"})
	require.ErrorContains(t, err, `key: "x"`)
}

func BenchmarkConcurrency(b *testing.B) {
	for _, name := range []string{All, Identity} {
		b.Run(name, func(b *testing.B) {
			guard, err := NewConcurrency(Concurrency{Calls: 10, Key: name})
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				c := identified("jwt", "alice") // of which the benchmark "no guard" is the cost
				if err := guard(c); err != nil {
					b.Fatal(err)
				}
				end(c)
			}
		})
	}
	b.Run("no guard", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			end(identified("jwt", "alice"))
		}
	})
}
