package handlertest

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// flow: a receiver that does not read holds back the sender, through
// whatever is between, so that nobody has to store what nobody wants yet.
func (s *suite) flow(t *testing.T) {
	s.each(t, []testCase{
		{"SlowClient", s.slowClient},
		{"SlowBackend", s.slowBackend},
		{"CancelWhileBackendIsHeldBack", s.cancelHeldBackend},
		{"CancelWhileClientIsHeldBack", s.cancelHeldClient},
		{"StatusWhileClientIsHeldBack", s.statusForHeldClient},
	})
}

const (
	pieceSize = 64 << 10
	// pieces make 64 MiB: what a sender could send if it were not held back.
	pieces = 1024
	// mayStore is what all parties together may take while nobody reads:
	// windows, socket buffers and queues are of this order. It is
	// generous, since the claim is that there is a bound.
	mayStore = 16 << 20
	window   = 64 << 10
)

// piece is the ith message. Each begins elsewhere in the same noise.
func piece(noise []byte, i int) []byte { return noise[i : i+pieceSize] }

// sendPieces counts in taken the bytes that the transport has accepted.
func sendPieces(sendMsg func(any) error, taken *atomic.Int64) error {
	bytes := noise(pieceSize+pieces, 9)
	for i := range pieces {
		if err := sendMsg(piece(bytes, i)); err != nil {
			return fmt.Errorf("piece %d: %w", i, err)
		}
		taken.Add(pieceSize)
	}
	return nil
}

// readPieces checks that all pieces come, in order and whole.
func readPieces(stream receiver) error {
	bytes := noise(pieceSize+pieces, 9)
	for i := range pieces {
		got, err := receive(stream)
		if err != nil {
			return fmt.Errorf("piece %d: %w", i, err)
		}
		if string(got) != string(piece(bytes, i)) {
			return fmt.Errorf("piece %d is not what was sent: %s", i, shorten(got))
		}
	}
	return nil
}

// heldBack waits until taken no longer grows, and returns it. Being blocked is
// not an event, so this looks at the clock: a sender that gets nowhere for
// a while counts as blocked. On a machine so slow that this is wrong,
// the test claims less than it could; it does not fail.
func heldBack(ctx context.Context, t *testing.T, taken *atomic.Int64) int64 {
	t.Helper()
	const still, every = 200 * time.Millisecond, 10 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last, unchanged := int64(-1), time.Duration(0)
	for unchanged < still {
		await(ctx, t, ticker.C, "the sender to be held back")
		if now := taken.Load(); now != last || now == 0 {
			last, unchanged = now, 0
			continue
		}
		unchanged += every
	}
	return last
}

// assertHeldBack checks what was taken while nobody read.
func assertHeldBack(t *testing.T, taken int64) {
	t.Helper()
	t.Logf("%d KiB were taken while nobody read", taken>>10)
	assert.Less(t, taken, int64(mayStore), "the sender was not held back")
}

// slowClient: the backend sends, the client does not read. Other calls on
// the same connection go on meanwhile, and nothing is lost.
func (s *suite) slowClient(t *testing.T) {
	ctx := s.contextFor(t, 6*s.safety)
	var taken atomic.Int64
	sent := make(chan error, 1)
	addr := s.through(t, backend(t, func(stream grpc.ServerStream) error {
		first, err := receive(stream)
		if err != nil || string(first) != "send" {
			return stream.SendMsg(first)
		}
		err = sendPieces(stream.SendMsg, &taken)
		sent <- err
		return err
	}))
	cc := dial(t, addr, grpc.WithInitialWindowSize(window))
	stream := open(ctx, t, cc, bidi)
	send(t, stream, []byte("send"))
	assertHeldBack(t, heldBack(ctx, t, &taken))
	s.othersGoOn(ctx, t, cc)

	require.NoError(t, readPieces(stream))
	expectEnd(t, stream)
	require.NoError(t, await(ctx, t, sent, "the sender"))
}

// slowBackend: the client sends, the backend does not read.
func (s *suite) slowBackend(t *testing.T) {
	ctx := s.contextFor(t, 6*s.safety)
	var taken atomic.Int64
	begin := make(chan struct{})
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		first, err := receive(stream)
		if err != nil || string(first) != "take" {
			return stream.SendMsg(first)
		}
		select {
		case <-begin:
		case <-stream.Context().Done():
		}
		if err := readPieces(stream); err != nil {
			return err
		}
		if _, err := receive(stream); err != io.EOF {
			return fmt.Errorf("after the last piece: %v", err)
		}
		return stream.SendMsg([]byte("got all"))
	}, grpc.InitialWindowSize(window))
	stream := open(ctx, t, cc, bidi)
	send(t, stream, []byte("take"))
	sent := make(chan error, 1)
	go func() {
		err := sendPieces(stream.SendMsg, &taken)
		if err == nil {
			err = stream.CloseSend()
		}
		sent <- err
	}()
	assertHeldBack(t, heldBack(ctx, t, &taken))
	s.othersGoOn(ctx, t, cc)

	close(begin)
	expect(t, stream, []byte("got all"), "the backend's verdict")
	expectEnd(t, stream)
	require.NoError(t, await(ctx, t, sent, "the sender"))
}

// cancelHeldBackend: a client that does not read may still give up, and what
// the backend cannot get rid of is then dropped.
func (s *suite) cancelHeldBackend(t *testing.T) {
	safe := s.context(t)
	var taken atomic.Int64
	ended := make(chan error, 1)
	addr := s.through(t, backend(t, func(stream grpc.ServerStream) error {
		err := sendPieces(stream.SendMsg, &taken)
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		return err
	}))
	ctx, cancel := context.WithCancel(safe)
	defer cancel()
	open(ctx, t, dial(t, addr, grpc.WithInitialWindowSize(window)), bidi)
	heldBack(safe, t, &taken)
	cancel()
	expectCanceled(safe, t, ended)
}

// stalled is the script of a backend that reads nothing until released.
func stalled(release <-chan struct{}, ended chan<- error) script {
	return func(stream grpc.ServerStream) error {
		select {
		case <-release:
			return status.Error(codes.ResourceExhausted, "stop it")
		case <-stream.Context().Done():
			ended <- stream.Context().Err()
			return stream.Context().Err()
		}
	}
}

// cancelHeldClient: the same in the other direction.
func (s *suite) cancelHeldClient(t *testing.T) {
	safe := s.context(t)
	ended := make(chan error, 1)
	cc := s.connect(t, stalled(nil, ended), grpc.InitialWindowSize(window))
	ctx, cancel := context.WithCancel(safe)
	defer cancel()
	stream := open(ctx, t, cc, bidi)
	var taken atomic.Int64
	sent := make(chan error, 1)
	go func() { sent <- sendPieces(stream.SendMsg, &taken) }()
	heldBack(safe, t, &taken)
	cancel()
	expectCanceled(safe, t, ended)
	assert.Error(t, await(safe, t, sent, "the sender"))
}

// statusForHeldClient: a backend that reads nothing may end the call, and the
// client that waits to send is told.
func (s *suite) statusForHeldClient(t *testing.T) {
	ctx := s.context(t)
	release := make(chan struct{})
	cc := s.connect(t, stalled(release, make(chan error, 1)), grpc.InitialWindowSize(window))
	stream := open(ctx, t, cc, bidi)
	var taken atomic.Int64
	sent := make(chan error, 1)
	go func() { sent <- sendPieces(stream.SendMsg, &taken) }()
	heldBack(ctx, t, &taken)
	close(release)
	_, err := receive(stream)
	assertStatus(t, codes.ResourceExhausted, "stop it", err)
	require.ErrorIs(t, await(ctx, t, sent, "the sender"), io.EOF, "what grpc-go's SendMsg says when the call is over")
}

// othersGoOn: further calls on a connection with a stalled one, small and
// large.
func (s *suite) othersGoOn(ctx context.Context, t *testing.T, cc *grpc.ClientConn) {
	t.Helper()
	for _, size := range []int{10, 1 << 20} {
		m := noise(size, 10)
		var reply []byte
		require.NoError(t, cc.Invoke(ctx, method, m, &reply), "a call beside the stalled one")
		sameBytes(t, m, reply, "a call beside the stalled one")
	}
}
