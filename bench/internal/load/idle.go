package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

const (
	openers    = 16                     // streams opened at a time
	settleTime = 500 * time.Millisecond // from the last echo to the start of the idle window
)

// idleStream is a caller whose stream stays open.
type idleStream struct {
	*caller
	stream grpc.ClientStream
}

// runIdle opens the streams, has each echo once, and compares the proxy's memory with what it was before. Afterwards
// each stream must still echo and end well: a proxy that drops idle streams would look thrifty.
func runIdle(ctx context.Context, cfg Config, m *meter, conns []*grpc.ClientConn) (Result, error) {
	calls, cancelCalls := context.WithCancel(ctx)
	defer cancelCalls()
	limit := time.AfterFunc(settleTime+cfg.Duration+2*drainTime, cancelCalls)
	defer limit.Stop()

	var now phase
	streams := newIdleStreams(newCallers(cfg.Scenario, conns, &now))
	touchEachConn(calls, streams, len(conns))
	empty, err := m.proxy.Memory()
	if err != nil {
		return Result{}, err
	}
	each(streams, func(s *idleStream) error { return s.open(calls) })

	sleep(ctx, settleTime)
	before, errBefore := m.read()
	sleep(ctx, cfg.Duration)
	after, errAfter := m.read()
	full, errMemory := m.proxy.Memory()

	opened := countOpen(streams)
	each(streams, (*idleStream).end)
	if err := errors.Join(ctx.Err(), errBefore, errAfter, errMemory); err != nil {
		return Result{}, err
	}
	res := collect(callersOf(streams))
	res.Ops = opened
	res.use(before, after)
	res.useIdle(after.proxy-before.proxy, full.Anon-empty.Anon)
	return res, res.usePeak(m)
}

// useIdle replaces the figures per operation, which say nothing of streams that do nothing.
func (r *Result) useIdle(cpu time.Duration, grown int64) {
	r.ProxyCPU, r.BackendCPU, r.LoaderCPU = 0, 0, 0
	r.IdleCPU = micros(cpu) / r.Seconds
	if r.Ops > 0 {
		r.StreamKiB = float64(grown) / 1024 / float64(r.Ops)
	}
}

func newIdleStreams(callers []*caller) []*idleStream {
	streams := make([]*idleStream, len(callers))
	for i, c := range callers {
		streams[i] = &idleStream{caller: c}
	}
	return streams
}

func callersOf(streams []*idleStream) []*caller {
	callers := make([]*caller, len(streams))
	for i, s := range streams {
		callers[i] = s.caller
	}
	return callers
}

func countOpen(streams []*idleStream) (n uint64) {
	for _, s := range streams {
		if s.stream != nil {
			n++
		}
	}
	return n
}

// touchEachConn makes a call on every connection, so that connections are not charged to the streams. The first
// streams are on different connections.
func touchEachConn(ctx context.Context, streams []*idleStream, conns int) {
	each(streams[:conns], func(s *idleStream) error { return s.unary(ctx) })
}

// each runs do for all streams, a few at a time, and returns when all are done. An error is the stream's.
func each(streams []*idleStream, do func(*idleStream) error) {
	todo := make(chan *idleStream)
	var wg sync.WaitGroup
	for range openers {
		wg.Go(func() { // ends when todo is closed
			for s := range todo {
				if err := do(s); err != nil {
					s.errors.add(err)
				}
			}
		})
	}
	for _, s := range streams {
		todo <- s
	}
	close(todo)
	wg.Wait()
}

// open starts the stream and waits for its first echo.
func (s *idleStream) open(ctx context.Context) error {
	stream, err := s.conn.NewStream(ctx, &chatDesc, wire.Chat)
	if err != nil {
		return err
	}
	if err := s.roundTrip(stream); err != nil {
		return fmt.Errorf("first message: %w", err)
	}
	s.stream = stream
	return nil
}

// end checks that the stream has lived, and closes it.
func (s *idleStream) end() error {
	if s.stream == nil {
		return nil // counted when it could not be opened
	}
	if err := s.roundTrip(s.stream); err != nil {
		return fmt.Errorf("after idling: %w", err)
	}
	return hangUp(s.stream)
}
