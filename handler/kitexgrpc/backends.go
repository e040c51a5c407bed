package kitexgrpc

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Options says how connections to backends are made and kept.
type Options struct {
	// ConnectTimeout bounds opening a connection, handshake included.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a connection is kept without a call; 0: for ever.
	IdleTimeout time.Duration
	// StreamWindow and ConnectionWindow are the HTTP/2 flow-control windows in
	// bytes that backends may fill.
	StreamWindow, ConnectionWindow uint32
	// MaxHeaderList is the largest header list accepted from a backend, in
	// bytes as RFC 9113 section 6.5.2 counts them.
	MaxHeaderList uint32
	// Connections is how many connections an instance of a cluster gets at
	// most, by cluster name. A cluster that is not named gets one.
	Connections map[string]int
	// Logger is told when an instance goes down and when it is back. Default
	// slog.Default().
	Logger *slog.Logger
}

func (o *Options) connectOptions() grpc.ConnectOptions {
	return grpc.ConnectOptions{
		InitialWindowSize:     o.StreamWindow,
		InitialConnWindowSize: o.ConnectionWindow,
		MaxHeaderListSize:     &o.MaxHeaderList,
	}
}

// sweepInterval is how often connections are looked at: see readerGoneAfter.
const sweepInterval = 250 * time.Millisecond

// Backends opens streams to backend instances over a few multiplexed
// connections each: opened on need, replaced when they end. All methods may
// be called concurrently.
type Backends struct {
	opts   Options
	ctx    context.Context // ends with Close; bounds dials
	cancel context.CancelFunc
	// running are the goroutines of dials and of the sweeper.
	running sync.WaitGroup

	mu        sync.RWMutex
	instances map[instanceKey]*instance
	closed    bool
}

type instanceKey struct{ cluster, address string }

// NewBackends starts with no connection and nothing running. Close must be
// called once Open has been.
func NewBackends(opts Options) *Backends {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Backends{opts: opts, ctx: ctx, cancel: cancel, instances: make(map[instanceKey]*instance)}
}

// Open opens the backend's side of a call on a connection to address. ctx is
// the call's: when it ends, the stream is reset. The error is a
// *stream.Failure; it is marked unprocessed unless the request itself is at
// fault.
func (b *Backends) Open(ctx context.Context, cluster, address string, req *stream.Request) (stream.Outbound, error) {
	inst, err := b.instance(cluster, address)
	if err != nil {
		return nil, unreachable(cluster, address, err)
	}
	ctx = outgoing(ctx, req)
	hdr := &grpc.CallHdr{Host: req.Authority, Method: req.Method, ContentSubtype: req.ContentSubtype}
	for range retiredAttempts {
		c, err := inst.acquire(ctx)
		if err != nil {
			return nil, unreachable(cluster, address, err)
		}
		s, err := c.tr.NewStream(ctx, hdr)
		if err == nil {
			if c.opened.Add(1) == maxStreamsOpened {
				inst.retire(c)
			}
			return &outbound{ctx: ctx, inst: inst, conn: c, s: s, where: where{cluster, address}}, nil
		}
		inst.release(c)
		if ctx.Err() != nil {
			return nil, contextFailure(ctx)
		}
		if active(c.tr) {
			// The connection is fine, so the request is not: its headers
			// exceed what the backend accepts.
			return nil, &stream.Failure{Reason: stream.ProxyInternal, Code: stream.Internal, Message: messageOf(err)}
		}
		// The backend began to drain the connection just now.
		inst.retire(c)
	}
	return nil, unreachable(cluster, address, errRetired)
}

// Down reports whether the last attempt to connect to an instance has failed,
// and it has no connection either. It does not block; asking starts the next
// attempt once it is due.
func (b *Backends) Down(cluster, address string) bool {
	b.mu.RLock()
	inst := b.instances[instanceKey{cluster, address}]
	b.mu.RUnlock()
	return inst != nil && inst.isDown()
}

// maxStreamsOpened is how many streams a connection carries in its life. Stream
// numbers are odd and end at 2^31 (RFC 9113 section 5.1.1), and Kitex does not
// see them end.
const maxStreamsOpened = 1 << 29

// retiredAttempts is how often Open looks for another connection when the one
// it got was being drained.
const retiredAttempts = 4

func unreachable(cluster, address string, err error) *stream.Failure {
	return &stream.Failure{
		Reason: stream.BackendUnreachable, Code: stream.Unavailable, Unprocessed: true,
		Message: fmt.Sprintf("cluster %q: instance %s: %v", cluster, address, err),
	}
}

func (b *Backends) instance(cluster, address string) (*instance, error) {
	key := instanceKey{cluster, address}
	b.mu.RLock()
	inst := b.instances[key]
	b.mu.RUnlock()
	if inst != nil {
		return inst, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errPoolClosed
	}
	if inst = b.instances[key]; inst == nil {
		if len(b.instances) == 0 {
			b.running.Go(b.sweepUntilClosed) // ends with b.ctx
		}
		inst = newInstance(key, max(1, b.opts.Connections[cluster]), b)
		b.instances[key] = inst
	}
	return inst, nil
}

func (b *Backends) all() []*instance {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := make([]*instance, 0, len(b.instances))
	for _, inst := range b.instances {
		list = append(list, inst)
	}
	return list
}

func (b *Backends) sweepUntilClosed() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, inst := range b.all() {
				inst.sweep(b.opts.IdleTimeout)
			}
		case <-b.ctx.Done():
			return
		}
	}
}

// Stats counts what is open to backends.
type Stats struct {
	Connections int   // that take new streams
	Streams     int64 // on those, and on others that are to end with their streams
}

// Stats returns the present figures.
func (b *Backends) Stats() Stats {
	var s Stats
	for _, inst := range b.all() {
		s.Connections += inst.connections()
		for _, c := range inst.everyConn() {
			s.Streams += c.streams.Load()
		}
	}
	return s
}

// Close ends all connections, and with them all streams, and waits until
// nothing of them is left running.
func (b *Backends) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	for _, inst := range b.all() {
		inst.close()
	}
	b.running.Wait()
}
