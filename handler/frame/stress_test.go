package frame

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// TestNothingIsLeftOfAnything: whatever clients and backends do to their
// streams, every call ends, at both ends, and an answer of OK is the right one.
func TestNothingIsLeftOfAnything(t *testing.T) {
	callers, calls := 12, 60
	if testing.Short() {
		calls = 10
	}
	var o options
	var left moods
	for i := range 3 {
		b, err := rawh2.Listen("", rawh2.Options{Settings: setting(http2.SettingMaxConcurrentStreams, uint32(2+i))}, left.serve)
		require.NoError(t, err)
		t.Cleanup(b.Close)
		o.instances = append(o.instances, b.Addr())
	}
	p := start(t, o)
	var answered atomic.Int32
	var all sync.WaitGroup
	for caller := range callers {
		rnd := rand.New(rand.NewPCG(7, uint64(caller)))
		c := p.dial(rawh2.Options{ManualWindow: caller%3 == 0})
		all.Go(func() {
			for range calls {
				if p.moodyCall(c, rnd) {
					answered.Add(1)
				}
			}
		})
	}
	all.Wait()
	require.Positive(t, answered.Load())
	p.settles()
	for _, s := range left.unended() {
		assert.NoError(t, awaitOver(p.safe(), s), "a stream of a backend is open")
	}
}

// moods are backends that may do anything.
type moods struct {
	mu      sync.Mutex
	streams []*rawh2.Stream // that the proxy has to end
}

// serve does with a stream what its request's number asks for.
func (m *moods) serve(s *rawh2.Stream) {
	seed, _ := strconv.ParseUint(s.Request().Get("seed"), 10, 64)
	rnd := rand.New(rand.NewPCG(seed, uint64(s.ID())))
	mood := rnd.IntN(12)
	if mood >= firstUnended {
		m.mu.Lock()
		m.streams = append(m.streams, s)
		m.mu.Unlock()
	}
	moody(s, mood, rnd)
}

func (m *moods) unended() []*rawh2.Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.streams)
}

// firstUnended is the first of moody's moods in which it does not reset the
// stream itself.
const firstUnended = 6

// awaitOver returns when the proxy has ended its side of a backend's stream.
func awaitOver(ctx context.Context, s *rawh2.Stream) error {
	select {
	case <-s.Context().Done(): // the connection is over
		return nil
	default:
	}
	_, err := s.AwaitReply(ctx)
	select {
	case <-s.Context().Done():
		return nil
	default:
		return err
	}
}

func moody(s *rawh2.Stream, mood int, rnd *rand.Rand) {
	switch mood {
	case 0:
		_ = s.Reset(http2.ErrCodeRefusedStream)
	case 1:
		_ = s.Conn().GoAway(s.ID()-2, http2.ErrCodeNo, "")
		s.Conn().Hangup()
	case 2:
		s.Conn().Abort()
	case 3:
		_ = s.OK([]byte("early"))
		_ = s.Reset(http2.ErrCodeNo)
	case 4:
		_, _ = s.AwaitBody(s.Context(), 1)
		_ = s.Reset(http2.ErrCodeInternal)
	case 5:
		_ = s.Status(9, "no")
		_ = s.Reset(http2.ErrCodeNo)
	case firstUnended:
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Data(rawh2.Frame(0, make([]byte, rnd.IntN(3*window))), true)
	case 7: // never answers
	default:
		echo(s)
	}
}

// moodyCall makes a call and reports whether it was answered.
func (p *proxy) moodyCall(c *rawh2.Conn, rnd *rand.Rand) bool {
	fields := rawh2.RequestFields(method, "test", rawh2.F("seed", strconv.Itoa(rnd.IntN(1<<30))),
		rawh2.F("grpc-timeout", strconv.Itoa(50+rnd.IntN(200))+"m"))
	s, err := c.NewStream(fields, false)
	if !assert.NoError(p.t, err) {
		return false
	}
	body := rawh2.Frame(0, make([]byte, []int{0, 100, 30_000, 3 * window}[rnd.IntN(4)]))
	cut := rnd.IntN(len(body))
	_ = s.DataFrame(body[:min(cut, 16<<10)], false)
	switch rnd.IntN(6) {
	case 0:
		_ = s.Reset(http2.ErrCodeCancel)
		return false
	case 1:
		_ = s.Trailers(rawh2.F("x", "1"))
		widen(s)
	default:
		// It may be over before that has left; then it has been answered.
		sent := make(chan error, 1)
		ctx, cancel := context.WithTimeout(p.safe(), 5*time.Second)
		defer cancel()
		go func() { sent <- s.Data(body[min(cut, 16<<10):], true) }() // ends with the stream
		widen(s)
		reply, err := s.AwaitReply(ctx)
		if reply.Reset == nil && assert.NoError(p.t, err) && reply.Trailer.Get("grpc-status") == "0" && string(reply.Body) != string(rawh2.Frame(0, []byte("early"))) {
			assert.Equal(p.t, len(body), len(reply.Body))
		}
		_ = s.Reset(http2.ErrCodeNo)
		<-sent
		return err == nil
	}
	reply, err := s.AwaitReply(p.safe())
	return assert.NoError(p.t, err) && reply.Reset == nil
}

// widen lets the answer in, for a client that does not do so by itself.
func widen(s *rawh2.Stream) {
	if s.Conn().Err() == nil {
		_ = s.Conn().WindowUpdate(0, 8*window)
		_ = s.Conn().WindowUpdate(s.ID(), 8*window)
	}
}
