package storm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// kind is one of the four kinds of calls.
type kind string

const (
	unary   kind = "Unary"
	collect kind = "Collect"
	expand  kind = "Expand"
	chat    kind = "Chat"
)

var kinds = []kind{unary, collect, expand, chat}

func (k kind) method() string { return "/kitexproxy.echo.v1.Echo/" + string(k) }

// ways are the values of the metadata that routes go by. At any time each has another
// mode.
var ways = []string{"a", "b", "c"}

// wayKey is that metadata.
const wayKey = "storm-way"

// verdict is what there is to say about a call that has ended.
//
// The rule of the storm: a call may fail only if the instance that it had got to was
// killed, or if its own deadline has passed. "Had got to" is that the instance had
// begun it, or that the proxy had sent it there and cannot know, which it says itself:
// x-kitexproxy-error is backend-disconnected, and the message names the instance. All
// else (an instance that leaves in peace, one that is not there yet or any more,
// a reload at whatever moment) must not be seen by any client, and nor must any answer
// be another one than that of the call.
type verdict string

const (
	fine          verdict = "ok"
	byDeadline    verdict = "own deadline passed"
	byKill        verdict = "its instance was killed"
	byKillUnknown verdict = "its instance was killed, perhaps before it had begun"
	wrong         verdict = "against the rule"
)

// traffic is calls of some clients.
type traffic struct {
	t     testing.TB
	fleet *fleet
	calls atomic.Int64 // so far, which are their names

	mu     sync.Mutex
	counts map[verdict]int
	byKind map[string]int // and by mode of the way
	wrong  []string
}

// patience keeps a failing test from hanging; no call passes by waiting for it.
const patience = 30 * time.Second

// run makes calls with some clients until ctx ends, several at a time with each, and
// returns when the last one has ended.
func (tr *traffic) run(ctx context.Context, address string, clients, atATime int) {
	var all sync.WaitGroup
	for range clients {
		cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
		require.NoError(tr.t, err)
		defer func() { _ = cc.Close() }()
		for range atATime {
			all.Go(func() {
				for ctx.Err() == nil {
					tr.call(cc)
				}
			})
		}
	}
	all.Wait()
}

// call makes a call, and judges it.
func (tr *traffic) call(cc *grpc.ClientConn) {
	c := &call{
		id: strconv.FormatInt(tr.calls.Add(1), 10), kind: kinds[rand.IntN(len(kinds))], way: ways[rand.IntN(len(ways))],
		hurried: rand.IntN(20) == 0,
	}
	limit := patience
	if c.hurried {
		limit = rand.N(slowness)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := c.make(metadata.AppendToOutgoingContext(ctx, callKey, c.id, wayKey, c.way), cc)
	v := tr.judge(c, err)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.counts[v]++
	tr.byKind[string(c.kind)]++
	if v == wrong {
		tr.wrong = append(tr.wrong, fmt.Sprintf("call %s (%s, way %s): %v; x-kitexproxy-error %q", c.id, c.kind, c.way, err, c.reason))
	}
}

// judge applies the rule to a call that has ended with err.
func (tr *traffic) judge(c *call, err error) verdict {
	began := tr.fleet.forget(c.id)
	switch {
	case err == nil:
		return fine
	case c.hurried && (status.Code(err) == codes.DeadlineExceeded || c.reason == string(stream.DeadlinePassed)):
		return byDeadline // of a status that comes inside a message, grpc-go tells the second half only
	case errors.Is(err, errOther):
		return wrong
	}
	for _, in := range began {
		if in.killed.Load() {
			return byKill
		}
	}
	if c.reason == string(stream.BackendDisconnected) && tr.fleet.namesKilled(status.Convert(err).Message()) {
		return byKillUnknown
	}
	return wrong
}

// call is one call of a client.
type call struct {
	id, way string
	kind    kind
	hurried bool   // it has a deadline that it may miss
	reason  string // of a failure that is the proxy's own
}

// errOther is the error of an answer that is not that of the call.
var errOther = errors.New("another answer was expected")

// make makes the call, and returns its error: a status, or one that is errOther.
func (c *call) make(ctx context.Context, cc *grpc.ClientConn) error {
	desc := &grpc.StreamDesc{ClientStreams: c.kind == collect || c.kind == chat, ServerStreams: c.kind == expand || c.kind == chat}
	s, err := cc.NewStream(ctx, desc, c.kind.method())
	if err != nil {
		return err
	}
	err = c.exchange(s)
	if v := s.Trailer().Get(stream.ReasonKey); len(v) > 0 {
		c.reason = v[0]
	}
	return err
}

// exchange sends and receives the messages of the call, and its end.
func (c *call) exchange(s grpc.ClientStream) error {
	m := &echo.EchoRequest{Message: c.id, Payload: randomPayload(), Count: 1}
	messages := 1
	switch c.kind {
	case collect, chat:
		messages = 1 + rand.IntN(6)
	case expand:
		m.Count = 1 + rand.Int32N(6)
	}
	want := &echo.EchoReply{Message: c.id, Payload: m.Payload}
	for range messages {
		if err := send(s, m); err != nil {
			return end(s) // which says why
		}
		if c.kind != chat {
			continue
		}
		if err := receive(s, want); err != nil {
			return err
		}
		time.Sleep(rand.N(5 * time.Millisecond)) // as people and sensors do
	}
	if err := s.CloseSend(); err != nil {
		return end(s)
	}
	if c.kind == collect {
		want = &echo.EchoReply{Message: strings.Repeat(c.id, messages), Payload: []byte(strings.Repeat(string(m.Payload), messages))}
	}
	if c.kind != chat {
		for range m.Count {
			if err := receive(s, want); err != nil {
				return err
			}
		}
	}
	return end(s)
}

// receive receives a message, which must be want.
func receive(s grpc.ClientStream, want *echo.EchoReply) error {
	var b []byte
	if err := s.RecvMsg(&b); errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the call ended with OK before it", errOther)
	} else if err != nil {
		return err
	}
	var got echo.EchoReply
	if err := got.Unmarshal(b); err != nil {
		return fmt.Errorf("%w: %v", errOther, err)
	}
	if got.Message != want.Message || string(got.Payload) != string(want.Payload) {
		return fmt.Errorf("%w: %.50q with %d bytes, not %.50q with %d", errOther, got.Message, len(got.Payload), want.Message, len(want.Payload))
	}
	return nil
}

// end receives the end of a call, nil for OK.
func end(s grpc.ClientStream) error {
	var b []byte
	switch err := s.RecvMsg(&b); {
	case err == nil:
		return fmt.Errorf("%w: a message more", errOther)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

// randomPayload is short as a rule, and sometimes more than a window takes.
func randomPayload() []byte {
	n := rand.IntN(2 << 10)
	if rand.IntN(50) == 0 {
		n = rand.IntN(200 << 10)
	}
	return make([]byte, n)
}
