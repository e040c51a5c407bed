package accesslog

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestOptionsOfNoUse(t *testing.T) {
	for name, test := range map[string]struct {
		opts Options
		says string
	}{
		"format":        {Options{Format: "xml"}, `format "xml": write json or text`},
		"percent":       {Options{SamplePercent: 101}, "sample percent 101: write 0 to 100"},
		"not a percent": {Options{SamplePercent: math.NaN()}, "sample percent NaN: write 0 to 100"},
		"buffer":        {Options{Buffer: -1}, "buffer -1: write how many lines may wait"},
		"key":           {Options{Metadata: []string{""}}, "metadata: a key is empty"},
		"no key":        {Options{Metadata: []string{"x\"y"}}, `metadata: "x\"y" is no key of metadata`},
		"directory":     {Options{Output: os.TempDir()}, "is a directory"},
		"no directory":  {Options{Output: filepath.Join(t.TempDir(), "a", "b")}, "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.opts)
			require.ErrorContains(t, err, "access log: ")
			require.ErrorContains(t, err, test.says)
		})
	}
}

func TestWhichCallsGetALine(t *testing.T) {
	const calls = 2000
	for name, test := range map[string]struct {
		opts      Options
		code      stream.Code
		low, high int
	}{
		"all":                        {Options{SamplePercent: 100}, stream.OK, calls, calls},
		"none":                       {Options{}, stream.OK, 0, 0},
		"half":                       {Options{SamplePercent: 50}, stream.OK, calls / 4, 3 * calls / 4},
		"errors whatever the sample": {Options{Errors: true}, stream.Unavailable, calls, calls},
		"errors like others":         {Options{}, stream.Unavailable, 0, 0},
		"OK is no error":             {Options{Errors: true}, stream.OK, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			test.opts.Buffer = calls
			log := logTo(t, test.opts, func(l *Log) {
				for range calls {
					carry(l, info(), ended(test.code, ""))
				}
				require.Zero(t, l.Dropped())
			})
			n := strings.Count(log, "\n")
			assert.GreaterOrEqual(t, n, test.low)
			assert.LessOrEqual(t, n, test.high)
		})
	}
}

// TestNoLineIsLost: what the queue takes is written, also if the log is closed at once.
func TestNoLineIsLost(t *testing.T) {
	const callers, calls = 8, 100
	log := logTo(t, Options{SamplePercent: 100, Buffer: callers * calls}, func(l *Log) {
		carryMany(l, callers, calls)
		require.Zero(t, l.Dropped())
	})
	seen := map[string]bool{}
	for _, line := range parse(t, log) {
		seen[line["method"].(string)] = true
	}
	require.Len(t, seen, callers*calls)
}

// TestLinesAreWrittenOrCounted: nothing in between, with less room than there are lines.
func TestLinesAreWrittenOrCounted(t *testing.T) {
	const callers, calls = 8, 500
	var l *Log
	log := logTo(t, Options{SamplePercent: 100, Buffer: 3}, func(started *Log) {
		l = started
		carryMany(l, callers, calls)
	})
	written, told := 0, 0.0
	for _, line := range parse(t, log) {
		if n, ok := line["dropped"]; ok {
			told += n.(float64)
		} else {
			written++
		}
	}
	require.EqualValues(t, callers*calls, int64(written)+l.Dropped())
	require.EqualValues(t, l.Dropped(), told, "the log says itself how many are missing")
}

// carryMany carries calls of methods that are all different, from callers at a time.
func carryMany(l *Log, callers, calls int) {
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			for call := range calls {
				i := info()
				i.Request.Method = fmt.Sprintf("/a.B/C%d.%d", caller, call)
				carry(l, i, ended(stream.OK, ""))
			}
		})
	}
	running.Wait()
}

// TestCallsDoNotWaitForTheOutput: one that takes nothing costs lines.
func TestCallsDoNotWaitForTheOutput(t *testing.T) {
	out := newStuck()
	l := startTo(Options{SamplePercent: 100, Buffer: 2}, out)
	carry(l, info(), ended(stream.OK, ""))
	wait(t, out.writing)
	for range 5 {
		carry(l, info(), ended(stream.OK, ""))
	}
	require.EqualValues(t, 3, l.Dropped())

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	err := l.Close(cancelled)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "access log: test takes no more lines")

	close(out.release)
	closeLog(t, l)
	lines := parse(t, out.String())
	require.Len(t, lines, 4)
	require.EqualValues(t, 3, lines[1]["dropped"])
	require.Equal(t, "WARN", lines[1]["level"])
}

// TestLinesWaitForOthers for a while, but not when there are many already.
func TestLinesWaitForOthers(t *testing.T) {
	for name, test := range map[string]struct {
		calls int
		wait  time.Duration
	}{"few": {2, gatherTime}, "many": {3, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var waits []time.Duration
				l := startTo(Options{SamplePercent: 100, Buffer: 4}, writes(func([]byte) {
					waits = append(waits, time.Since(began))
				}))
				for range test.calls {
					carry(l, info(), ended(stream.OK, ""))
				}
				time.Sleep(2 * gatherTime)
				closeLog(t, l)
				require.Equal(t, []time.Duration{test.wait}, waits)
			})
		})
	}
}

func TestCallsThatEndAfterCloseAreDropped(t *testing.T) {
	l := startTo(Options{SamplePercent: 100}, &disk{})
	closeLog(t, l)
	carry(l, info(), ended(stream.OK, ""))
	require.EqualValues(t, 1, l.Dropped())
	closeLog(t, l)
}

// BenchmarkCall measures all that a line costs, with -cpu 1 in CPU time.
func BenchmarkCall(b *testing.B) {
	for _, format := range []string{JSON, Text} {
		b.Run(format, func(b *testing.B) {
			l, err := New(Options{
				Output: filepath.Join(b.TempDir(), "access.log"), Format: format, SamplePercent: 100,
				Metadata: []string{"x-tenant"},
			})
			require.NoError(b, err)
			call := intercept.Begin(nil, info(stream.Field{Key: "x-tenant", Value: "acme"}))
			call.Routed("orders", "shop", "frame")
			call.BeginAttempt("shop", "10.0.0.1:9000")
			call.End(ended(stream.OK, ""))
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				l.End(call)
				if n%(DefaultBuffer-1) == DefaultBuffer-2 {
					l.waitEmpty()
				}
			}
			closeLog(b, l)
			require.Zero(b, l.Dropped())
		})
	}
}

// waitEmpty returns once the writer has taken what is queued.
func (l *Log) waitEmpty() {
	for n := 1; n > 0; runtime.Gosched() {
		l.mu.Lock()
		n = len(l.queue)
		l.mu.Unlock()
	}
}
