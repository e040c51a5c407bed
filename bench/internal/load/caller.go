package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/stats"
	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

// errorPause keeps a caller whose calls fail at once from spinning.
const errorPause = 10 * time.Millisecond

var chatDesc = grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// phase is where a run stands; all callers share one.
type phase struct{ v atomic.Int32 }

const (
	warmingUp int32 = iota
	measuring
	over
)

func (p *phase) set(v int32)     { p.v.Store(v) }
func (p *phase) is(v int32) bool { return p.v.Load() == v }

// caller makes calls one after another and keeps its own account, so that callers never wait for each other.
type caller struct {
	scenario scenario.Scenario
	conn     *grpc.ClientConn // nil if it speaks no gRPC
	web      *web             // nil if it does
	phase    *phase
	payload  wire.Payload
	next     uint64 // stamp of the next message: the caller's number above, a count below

	ops       uint64 // those that ended within the window
	latencies []time.Duration
	errors    tally
}

func newCallers(s scenario.Scenario, conns []*grpc.ClientConn, p *phase) []*caller {
	callers := make([]*caller, s.Callers)
	for i := range callers {
		callers[i] = &caller{
			scenario: s,
			conn:     conns[i%len(conns)],
			phase:    p,
			payload:  wire.NewPayload(s.Size),
			next:     uint64(i) << 32,
		}
	}
	return callers
}

// web is what a caller has that speaks no gRPC.
type web struct {
	exchange *wire.Exchange
	client   *http.Client
	addr     string
}

func newWebCallers(cfg Config, client *http.Client, p *phase) []*caller {
	callers := make([]*caller, cfg.Scenario.Callers)
	for i := range callers {
		callers[i] = &caller{
			scenario: cfg.Scenario,
			web:      &web{exchange: ExchangeOf(cfg.Scenario), client: client, addr: cfg.Addr},
			phase:    p,
			next:     uint64(i) << 32,
		}
	}
	return callers
}

// ExchangeOf is a new one of the kind that a scenario in HTTP is made of.
func ExchangeOf(s scenario.Scenario) *wire.Exchange {
	switch s.Kind {
	case scenario.Post:
		return wire.PostFunction(s.Size)
	case scenario.Get:
		return wire.GetFunction(s.Size)
	}
	return wire.OrderJSON()
}

// run works until the phase is over or ctx ends.
func (c *caller) run(ctx context.Context) {
	work := map[scenario.Kind]func(context.Context) error{
		scenario.Unary:        c.unary,
		scenario.PingPong:     c.pingPong,
		scenario.ServerStream: c.serverStream,
		scenario.Order:        c.request,
		scenario.Post:         c.request,
		scenario.Get:          c.request,
	}[c.scenario.Kind]
	for !c.phase.is(over) && ctx.Err() == nil {
		if err := work(ctx); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("given up %v after the window: %w", drainTime, err)
			}
			c.errors.add(err)
			sleep(ctx, errorPause)
		}
		if c.scenario.Pause > 0 {
			sleep(ctx, c.scenario.Pause)
		}
	}
}

// count adds operations that have just ended. Those that end within the window count, wherever they began: as many
// are under way at its start as at its end.
func (c *caller) count(ops uint64) {
	if c.phase.is(measuring) {
		c.ops += ops
	}
}

func (c *caller) time(d time.Duration) {
	if c.phase.is(measuring) {
		c.latencies = append(c.latencies, d)
	}
}

// unary makes one call.
func (c *caller) unary(ctx context.Context) error {
	if c.scenario.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, c.scenario.Timeout)
		defer cancel()
		ctx = limited
	}
	stamp := c.stamp()
	start := time.Now()
	var reply wire.Message
	if err := c.conn.Invoke(ctx, wire.Unary, c.payload.Stamp(stamp), &reply); err != nil {
		return err
	}
	took := time.Since(start)
	if err := c.check(&reply, stamp); err != nil {
		return err
	}
	c.count(1)
	c.time(took)
	return nil
}

// request makes one request.
func (c *caller) request(ctx context.Context) error {
	start := time.Now()
	if err := c.web.exchange.Do(ctx, c.web.client, c.web.addr, c.stamp()); err != nil {
		return err
	}
	c.count(1)
	c.time(time.Since(start))
	return nil
}

// pingPong keeps one stream busy until the phase is over.
func (c *caller) pingPong(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // frees the stream if it is left early
	stream, err := c.conn.NewStream(ctx, &chatDesc, wire.Chat)
	if err != nil {
		return err
	}
	for !c.phase.is(over) {
		start := time.Now()
		if err := c.roundTrip(stream); err != nil {
			return err
		}
		c.count(1)
		c.time(time.Since(start))
	}
	return hangUp(stream)
}

func (c *caller) roundTrip(stream grpc.ClientStream) error {
	stamp := c.stamp()
	if err := stream.SendMsg(c.payload.Stamp(stamp)); err != nil {
		return outcome(stream, err)
	}
	var reply wire.Message
	if err := stream.RecvMsg(&reply); err != nil {
		return early(err)
	}
	return c.check(&reply, stamp)
}

// serverStream reads one stream to its end.
func (c *caller) serverStream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, wire.Stream)
	if err != nil {
		return err
	}
	request := wire.StreamRequest{Count: c.scenario.Messages, Size: c.scenario.Size}
	if err := stream.SendMsg(request.Encode()); err != nil {
		return outcome(stream, err)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for i := range c.scenario.Messages {
		var m wire.Message
		if err := stream.RecvMsg(&m); err != nil {
			return fmt.Errorf("message %d of %d: %w", i, c.scenario.Messages, early(err))
		}
		if err := c.check(&m, uint64(i)); err != nil {
			return err
		}
		c.count(1)
	}
	if err := expectEnd(stream); err != nil {
		return err
	}
	c.time(time.Since(start))
	return nil
}

func (c *caller) stamp() uint64 {
	c.next++
	return c.next
}

func (c *caller) check(m *wire.Message, stamp uint64) error {
	err := c.payload.Check(m.Data, stamp)
	m.Free()
	return err
}

// hangUp half-closes a chat and waits for its good end.
func hangUp(stream grpc.ClientStream) error {
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return expectEnd(stream)
}

func expectEnd(stream grpc.ClientStream) error {
	var m wire.Message
	switch err := stream.RecvMsg(&m); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	m.Free()
	return errors.New("a message where the stream should have ended")
}

// outcome finds out why a send failed: grpc-go's SendMsg only says io.EOF, the status comes from RecvMsg.
func outcome(stream grpc.ClientStream, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	var m wire.Message
	return early(stream.RecvMsg(&m))
}

// early makes an error of an end that is good in itself, but came while more was expected.
func early(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New("the stream ended early, with status OK")
	}
	return err
}

// collect adds the callers' accounts up.
func collect(callers []*caller) Result {
	var (
		res       Result
		latencies []time.Duration
		all       tally
	)
	for _, c := range callers {
		res.Ops += c.ops
		latencies = append(latencies, c.latencies...)
		all.merge(c.errors)
	}
	slices.Sort(latencies)
	res.P50Micros = micros(stats.Percentile(latencies, 50))
	res.P99Micros = micros(stats.Percentile(latencies, 99))
	res.Errors, res.ErrorSamples = all.count, all.samples
	return res
}
