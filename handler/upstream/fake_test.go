package upstream

import (
	"context"
	"io"
	"log/slog"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBackend is an instance whose connections are made without sockets.
type fakeBackend struct {
	limit int64 // of streams on a connection, 0 for none
	// begin, if set, is what happens on a new connection before Dial returns.
	// Its error is Dial's, and then there is no connection.
	begin func(ctx context.Context, c *fakeConn) error

	mu    sync.Mutex
	dials int
	conns []*fakeConn
}

func (b *fakeBackend) dial(ctx context.Context, to Peer, ev Events) (Transport, int64, error) {
	b.mu.Lock()
	b.dials++
	begin, limit := b.begin, b.limit
	b.mu.Unlock()
	c := &fakeConn{ev: ev, peer: to}
	if begin != nil {
		if err := begin(ctx, c); err != nil {
			return nil, 0, err
		}
	}
	if limit == 0 {
		limit = math.MaxInt64
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, c)
	return c, limit, nil
}

func (b *fakeBackend) onBegin(begin func(ctx context.Context, c *fakeConn) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin = begin
}

// fail makes Dial fail with err, nil for not any more.
func (b *fakeBackend) fail(err error) {
	b.onBegin(func(context.Context, *fakeConn) error { return err })
}

func (b *fakeBackend) dialed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dials
}

func (b *fakeBackend) all() []*fakeConn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*fakeConn(nil), b.conns...)
}

// fakeConn is a connection that ends when it is told to.
type fakeConn struct {
	ev   Events
	peer Peer

	mu     sync.Mutex
	leaves bool // GOAWAY has come
	stuck  bool
	cause  error // why it is over, nil while it is not
}

func (c *fakeConn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.leaves && c.cause == nil
}

func (c *fakeConn) Stuck() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck && c.cause == nil
}

func (c *fakeConn) Close(cause error) {
	c.mu.Lock()
	first := c.cause == nil
	if first {
		c.cause = cause
	}
	c.mu.Unlock()
	if first {
		c.ev.Closed()
	}
}

func (c *fakeConn) closed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// drain begins to refuse streams, as at the moment that a GOAWAY comes.
func (c *fakeConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaves = true
}

func (c *fakeConn) goAway() {
	c.drain()
	c.ev.Retired()
}

func (c *fakeConn) lose() { c.Close(io.ErrUnexpectedEOF) }

func (c *fakeConn) getStuck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck = true
}

// fixture is a pool of connections to a fake backend at one address.
type fixture struct {
	*Pool
	backend *fakeBackend
}

func newFixture(t testing.TB, o rules, b *fakeBackend) *fixture {
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = math.MaxInt64
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &fixture{Pool: New(o.Options, b.dial), backend: b}
	if o.cluster != nil {
		f.Configure("c", *o.cluster)
	}
	t.Cleanup(f.Close)
	return f
}

// rules are what a fixture's pool works by.
type rules struct {
	Options
	cluster *ClusterOptions // nil: the cluster is not configured
}

// run makes a test with a clock of its own, on which time passes when all its
// goroutines wait.
func run(t *testing.T, o rules, b *fakeBackend, test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) { test(t, newFixture(t, o, b)) })
}

// upTo allows the cluster of the tests so many connections.
func upTo(conns int) rules { return by(ClusterOptions{Connections: conns, Idle: -1}) }

// by has the cluster of the tests follow these rules.
func by(o ClusterOptions) rules { return rules{cluster: &o} }

func (f *fixture) get(ctx context.Context) (*Conn, error) { return f.Acquire(ctx, "c", "address") }

func (f *fixture) acquire(t *testing.T) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	c, err := f.get(ctx)
	require.NoError(t, err)
	return c
}

// acquireLater acquires in a goroutine of its own, which ends when it has. nil
// comes if that takes an hour, by the test's clock, or outlasts the test.
func (f *fixture) acquireLater(t *testing.T) <-chan *Conn {
	got := make(chan *Conn, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		c, _ := f.get(ctx)
		got <- c
	}()
	return got
}

func (f *fixture) waiting(t *testing.T) int64 {
	synctest.Wait()
	in, err := f.instance("c", "address")
	require.NoError(t, err)
	return in.waiting.Load()
}

func (f *fixture) requireStats(t *testing.T, connections int, streams int64) {
	t.Helper()
	synctest.Wait()
	require.Equal(t, Stats{Connections: connections, Streams: streams}, f.Stats())
}
