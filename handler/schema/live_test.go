package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// source is what a Live fetches from, and all that it tells. A test says what it
// says.
type source struct {
	began time.Time

	mu      sync.Mutex
	schema  *Schema
	err     error
	refuse  error           // of each change
	times   []time.Duration // of fetches, since the start
	changes []*Schema
	log     bytes.Buffer
}

func (s *source) says(schema *Schema, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schema, s.err = schema, err
}

func (s *source) refuses(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func (s *source) fetch(context.Context) (*Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, time.Since(s.began))
	return s.schema, s.err
}

func (s *source) changed(schema *Schema) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, schema)
	return s.refuse
}

// Write takes a line of the log.
func (s *source) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

// fetched returns when there have been fetches.
func (s *source) fetched() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.times)
}

// offered returns the changes so far.
func (s *source) offered() []*Schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.changes)
}

// logged returns the lines that have been logged since it was last called.
func (s *source) logged() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.log.Reset()
	return strings.FieldsFunc(s.log.String(), func(r rune) bool { return r == '\n' })
}

var errNobody = errors.New("nobody there")

// live runs a test of a Live in a bubble, where time passes only when all wait.
func live(t *testing.T, opts LiveOptions, test func(t *testing.T, l *Live, s *source)) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{began: time.Now(), err: errNobody}
		opts.Changed = s.changed
		opts.Logger = slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		l := NewLive(s.fetch, opts)
		defer l.Close()
		synctest.Wait()
		test(t, l, s)
	})
}

// pass has time pass, and waits for what happens then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var (
	schemaA = mustSet("A")
	schemaB = mustSet("B")
)

// mustSet returns a schema with one service.
func mustSet(name string) *Schema {
	l, err := linkFiles(context.Background(), service("a.proto", name))
	if err != nil {
		panic(err)
	}
	return newSchema(l, l.services(), nil)
}

func TestLiveKeepsTheFirstSchemaForEver(t *testing.T) {
	live(t, LiveOptions{}, func(t *testing.T, l *Live, s *source) {
		assert.Nil(t, l.Current())
		s.says(schemaA, nil)
		got, err := l.Await(t.Context())
		require.NoError(t, err)
		assert.Same(t, schemaA, got)
		assert.Same(t, schemaA, l.Current())
		s.says(schemaB, nil)
		pass(24 * time.Hour)
		assert.Len(t, s.fetched(), 2)
		assert.Equal(t, []string{
			`level=WARN msg="there is no schema yet" error="nobody there"`,
			`level=INFO msg="the schema is up to date again"`,
		}, s.logged())

		l.Close() // more than once does no harm
		for range 100 {
			got, err = l.Await(t.Context())
			require.NoError(t, err)
			assert.Same(t, schemaA, got)
		}
	})
}

func TestLiveRefreshes(t *testing.T) {
	live(t, LiveOptions{Refresh: time.Minute}, func(t *testing.T, l *Live, s *source) {
		s.says(schemaA, nil)
		pass(time.Second)
		assert.Equal(t, []*Schema{schemaA}, s.offered())
		s.logged()

		s.says(mustSet("A"), nil) // another one that says the same
		pass(10 * time.Minute)
		assert.Len(t, s.fetched(), 12)
		assert.Len(t, s.offered(), 1)
		assert.Same(t, schemaA, l.Current(), "descriptors stay the same")

		s.says(schemaB, nil)
		pass(time.Minute)
		assert.Equal(t, []*Schema{schemaA, schemaB}, s.offered())
		assert.Same(t, schemaB, l.Current())
		assert.Empty(t, s.logged())
	})
}

// A fetch that fails is tried again after a while, and that grows.
func TestLiveRetries(t *testing.T) {
	live(t, LiveOptions{Refresh: time.Minute}, func(t *testing.T, l *Live, s *source) {
		pass(5 * time.Minute)
		s.says(schemaA, nil)
		pass(time.Minute)
		require.Same(t, schemaA, l.Current())
		s.says(nil, errors.New("gone"))
		last := len(s.fetched())
		pass(2 * time.Minute)

		requirePauses := func(fetched []time.Duration) {
			longest, shorter := time.Second, 0
			for i := 1; i < len(fetched); i++ {
				pause := fetched[i] - fetched[i-1]
				assert.GreaterOrEqual(t, pause, longest/2, "pause %d", i)
				assert.LessOrEqual(t, pause, longest, "pause %d", i)
				if pause < longest {
					shorter++
				}
				longest = min(2*longest, 30*time.Second)
			}
			assert.GreaterOrEqual(t, len(fetched), 6)
			assert.Positive(t, shorter, "by chance")
		}
		requirePauses(s.fetched()[:last-1])
		requirePauses(s.fetched()[last:])
		assert.Same(t, schemaA, l.Current(), "an old schema is better than none")
	})
}

func TestLiveRetriesAsOftenAsItIsTold(t *testing.T) {
	live(t, LiveOptions{Retry: time.Hour}, func(t *testing.T, _ *Live, s *source) {
		pass(10 * time.Hour)
		assert.InDelta(t, 16, len(s.fetched()), 5, "a pause that is longer than 30 s does not grow")
	})
}

func TestLiveSaysEachReasonOnce(t *testing.T) {
	live(t, LiveOptions{Refresh: time.Second, Retry: time.Second}, func(t *testing.T, l *Live, s *source) {
		pass(time.Hour)
		assert.Equal(t, []string{`level=WARN msg="there is no schema yet" error="nobody there"`}, s.logged())
		s.says(nil, errors.New("not you"))
		pass(time.Hour)
		assert.Equal(t, []string{`level=WARN msg="there is no schema yet" error="not you"`}, s.logged())
		s.says(schemaA, nil)
		pass(time.Hour)
		assert.Equal(t, []string{`level=INFO msg="the schema is up to date again"`}, s.logged())
		s.says(nil, errors.New("not you"))
		pass(time.Hour)
		assert.Equal(t, []string{`level=WARN msg="the schema cannot be refreshed; the old one stays in use" error="not you"`}, s.logged())
		s.says(schemaA, nil)
		pass(time.Hour)
		assert.Equal(t, []string{`level=INFO msg="the schema is up to date again"`}, s.logged())
		assert.Same(t, schemaA, l.Current())
	})
}

// A schema that is refused is not offered again, but for another one in between.
func TestLiveKeepsTheOldSchemaWhenTheNewOneIsRefused(t *testing.T) {
	live(t, LiveOptions{Refresh: time.Minute}, func(t *testing.T, l *Live, s *source) {
		s.refuses(errors.New("no such method"))
		s.says(schemaA, nil)
		pass(time.Hour)
		assert.Nil(t, l.Current(), "the first one, too")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		_, err := l.Await(ctx)
		require.EqualError(t, err, "no schema yet (enough): the schema has changed, and the new one is refused: no such method")
		assert.Len(t, s.offered(), 1)
		s.refuses(nil)
		pass(time.Hour)
		assert.Nil(t, l.Current())
		s.logged()

		s.says(schemaB, nil)
		pass(time.Minute)
		require.Same(t, schemaB, l.Current())
		s.says(schemaA, nil)
		pass(time.Minute)
		require.Same(t, schemaA, l.Current())
		s.logged()

		s.refuses(errors.New("no such method"))
		s.says(schemaB, nil)
		pass(time.Hour)
		assert.Same(t, schemaA, l.Current())
		assert.Equal(t, []string{`level=WARN msg="the schema cannot be refreshed; the old one stays in use" ` +
			`error="the schema has changed, and the new one is refused: no such method"`}, s.logged())
		s.says(schemaA, nil)
		pass(time.Minute)
		assert.Equal(t, []string{`level=INFO msg="the schema is up to date again"`}, s.logged())
	})
}

func TestLiveTellsOfMissingServices(t *testing.T) {
	live(t, LiveOptions{Refresh: time.Minute}, func(t *testing.T, _ *Live, s *source) {
		s.logged()
		l, err := linkFiles(t.Context(), service("a.proto", "A"))
		require.NoError(t, err)
		s.says(newSchema(l, l.services(), []Missing{{"x.Y", errors.New("no file")}}), nil)
		pass(time.Hour)
		assert.Equal(t, []string{
			`level=WARN msg="a service is not in the schema" service=x.Y error="no file"`,
			`level=INFO msg="the schema is up to date again"`,
		}, s.logged())
	})
}

func TestAwaitSaysWhyThereIsNoSchema(t *testing.T) {
	live(t, LiveOptions{}, func(t *testing.T, l *Live, _ *source) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := l.Await(ctx)
		require.EqualError(t, err, "no schema yet (context deadline exceeded): nobody there")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errNobody)
		l.Close()
		_, err = l.Await(t.Context())
		require.EqualError(t, err, "no schema yet (the proxy is shutting down): nobody there")
	})
}

func TestAwaitWaits(t *testing.T) {
	live(t, LiveOptions{Refresh: time.Hour}, func(t *testing.T, l *Live, s *source) {
		const waiting = 3
		results := make(chan error, waiting)
		for range waiting {
			go func() { // ends with the first schema
				got, err := l.Await(t.Context())
				if err == nil && got != schemaA {
					err = fmt.Errorf("got %p", got)
				}
				results <- err
			}()
		}
		pass(time.Millisecond)
		require.Empty(t, results)
		s.says(schemaA, nil)
		for range waiting {
			require.NoError(t, <-results)
		}
	})
}

func TestCloseDoesNotWaitForTheNextFetch(t *testing.T) {
	live(t, LiveOptions{Retry: time.Hour}, func(t *testing.T, l *Live, s *source) {
		begun := time.Now()
		l.Close()
		assert.Zero(t, time.Since(begun))
		assert.Len(t, s.fetched(), 1)
	})
}

// A fetch is given so much time, and Close does not wait for it to pass.
func TestLiveEndsFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []error
		log := new(source)
		l := NewLive(func(ctx context.Context) (*Schema, error) {
			<-ctx.Done()
			ends = append(ends, context.Cause(ctx))
			return nil, context.Cause(ctx)
		}, LiveOptions{Timeout: 10 * time.Second, Retry: time.Second, Logger: slog.New(slog.NewTextHandler(log, nil))})
		pass(10 * time.Second)
		require.Len(t, ends, 1)
		require.EqualError(t, ends[0], "not done within 10s")
		pass(5 * time.Second)
		_, err := l.Await(canceled(t))
		require.EqualError(t, err, "no schema yet (context canceled): not done within 10s")

		begun := time.Now()
		l.Close()
		assert.Zero(t, time.Since(begun))
		require.Len(t, ends, 2)
		require.ErrorIs(t, ends[1], context.Canceled)
		assert.Len(t, log.logged(), 1, "that it is closed is no failure")
	})
}

func TestAwaitBeforeTheFirstFetchIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLive(func(ctx context.Context) (*Schema, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, LiveOptions{})
		_, err := l.Await(canceled(t))
		require.EqualError(t, err, "no schema yet: context canceled")
		l.Close()
	})
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
