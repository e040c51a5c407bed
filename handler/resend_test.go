package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// script is what a backend does with one attempt.
type script int

const (
	answers     script = iota // OK, with a message, once the request is complete
	saysAborted               // ABORTED in a response that is trailers-only
	saysBusy                  // UNAVAILABLE, likewise
	headerThen                // UNAVAILABLE behind a response header
	refuses                   // REFUSED_STREAM
	disconnects               // loses the connection
	down                      // cannot be opened
	hangs                     // answers nothing
	opensNever                // takes no stream before it is given up
	scripts
)

// attempted is an attempt as its backend sees it.
type attempted struct {
	script script
	ctx    context.Context
	before string // what it has been told of the attempts before it

	mu       sync.Mutex
	got      []byte
	complete chan struct{}
	over     chan struct{} // closed by Abort
	aborts   int
}

func (a *attempted) wait(until <-chan struct{}) error {
	select {
	case <-until:
		return nil
	case <-a.over:
	case <-a.ctx.Done():
	}
	var f *stream.Failure
	if errors.As(context.Cause(a.ctx), &f) {
		return f
	}
	return &stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled}
}

func (a *attempted) Header() (*stream.Header, error) {
	switch a.script {
	case answers:
		return &stream.Header{}, a.wait(a.complete)
	case headerThen:
		return &stream.Header{}, nil
	case refuses:
		return nil, &stream.Failure{Reason: stream.BackendRefused, Code: stream.Unavailable, Unprocessed: true}
	case disconnects:
		return nil, &stream.Failure{Reason: stream.BackendDisconnected, Code: stream.Unavailable}
	case hangs:
		return nil, a.wait(nil)
	default:
		return nil, nil
	}
}

func (a *attempted) Read([]byte) error { return io.EOF }
func (a *attempted) Ready(int) bool    { return true }
func (a *attempted) Flush()            {}

func (a *attempted) Write(b []byte, last bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, b...)
	if last {
		close(a.complete)
	}
	return nil
}

func (a *attempted) Trailer() *stream.Trailer {
	codes := map[script]stream.Code{answers: stream.OK, saysAborted: 10, saysBusy: stream.Unavailable, headerThen: stream.Unavailable}
	code, ended := codes[a.script]
	if !ended {
		return nil
	}
	return &stream.Trailer{Status: stream.Status{Code: code}}
}

func (a *attempted) Abort() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.aborts++; a.aborts == 1 {
		close(a.over)
	}
}

// scripted are backends that follow a script with each attempt.
type scripted struct {
	mu      sync.Mutex
	scripts []script
	opened  []*attempted // that got a stream
	asked   int
}

func (s *scripted) Down(string, string) bool { return false }

func (s *scripted) Open(ctx context.Context, _, _ string, req *stream.Request) (stream.Outbound, error) {
	s.mu.Lock()
	next := hangs
	if s.asked < len(s.scripts) {
		next = s.scripts[s.asked]
	}
	s.asked++
	a := &attempted{
		script: next, ctx: ctx, before: req.Metadata.Get(previousAttemptsKey), complete: make(chan struct{}), over: make(chan struct{}),
	}
	if next != down && next != opensNever {
		s.opened = append(s.opened, a)
	}
	s.mu.Unlock()
	switch next {
	case down:
		return nil, errDown
	case opensNever:
		return nil, a.wait(nil)
	}
	return a, nil
}

// retryTable routes everything to one cluster by a policy.
func retryTable(policy conf.Retry, timeout time.Duration, instances ...string) *resolver.Table {
	return tableOf(&conf.Config{
		Clusters: map[string]*conf.Cluster{"c": {Instances: instances}},
		Default:  &conf.Action{Cluster: "c", Retry: &policy, Timeout: conf.Duration(timeout)},
	})
}

// checkCleanUp checks that nothing of a call is left.
func checkCleanUp(t *testing.T, table *resolver.Table, s *scripted) {
	t.Helper()
	for i, a := range s.opened {
		require.Positive(t, a.aborts, "attempt %d must be let go of", i)
	}
	c := table.Cluster("c")
	require.Zero(t, c.Calls())
	for _, e := range c.Endpoints() {
		require.Zero(t, e.Active(), "calls of instance %s", e.Address())
	}
	for range 3 { // that is how many there always may be
		require.True(t, c.EnterRetry(0), "the budget is there again")
	}
	for range 3 {
		c.LeaveRetry()
	}
}

// trickling is a client whose request comes in pieces, with pauses.
type trickling struct {
	*client
	pause time.Duration
}

func (c *trickling) Read(p []byte) error {
	select {
	case <-time.After(c.pause):
		return c.client.Read(p)
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// Whatever attempts there are, and however they meet a request that comes in pieces:
// the call ends, with the answer of an attempt that got all of the request or that of
// the last one, within what the policy allows, and nothing is left.
func TestRetriesOfRandomScripts(t *testing.T) {
	for seed := range uint64(1000) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { retryRandomly(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func retryRandomly(t *testing.T, random *rand.Rand) {
	s := &scripted{}
	for range 12 {
		s.scripts = append(s.scripts, script(random.IntN(int(scripts))))
	}
	policy := conf.Retry{
		Codes: []conf.Code{"ABORTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}, Attempts: 2 + random.IntN(4), BudgetPercent: 100,
		Backoff: conf.Duration(random.IntN(20)) * conf.Duration(time.Millisecond), MaxBackoff: conf.Duration(20 * time.Millisecond),
		Buffer: conf.Size(random.IntN(3)) * 100 << 10,
	}
	if random.IntN(2) == 0 {
		policy.AttemptTimeout = conf.Duration(30 * time.Millisecond)
	}
	if random.IntN(2) == 0 {
		policy.Hedge = conf.Duration(5 * time.Millisecond)
	}
	request := messages("a", strings.Repeat("b", random.IntN(120<<10)), "c")
	c := &trickling{newClient(request, io.EOF), time.Duration(random.IntN(10)) * time.Millisecond}
	c.complete = random.IntN(3) == 0
	if random.IntN(4) == 0 {
		time.AfterFunc(time.Duration(random.IntN(50))*time.Millisecond, c.cancel)
	}
	table := retryTable(policy, time.Second, "one", "two", "three")
	h := New(Options{Resolver: table, Backends: s})
	h.Serve(c)
	require.NotNil(t, c.end)
	checkCleanUp(t, table, s)
	h.Shutdown(t.Context())
	told := map[string]bool{}
	for _, a := range s.opened {
		require.True(t, strings.HasPrefix(string(request), string(a.got)), "an attempt gets the request in order")
		told[a.before] = true
	}
	require.LessOrEqual(t, len(told), policy.Attempts)
	if c.end.Status.Code == stream.OK {
		require.Condition(t, func() bool { return anyGot(s.opened, request) }, "one attempt has got all")
	}
}

func anyGot(all []*attempted, request []byte) bool {
	for _, a := range all {
		if a.script == answers && string(a.got) == string(request) {
			return true
		}
	}
	return false
}

// A loser of a race is not the end of the call, whatever it says.
func TestHedgesThatNobodyBeganEndNothing(t *testing.T) {
	for name, second := range map[string]script{"refuses": refuses, "down": down} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{scripts: []script{hangs, second, second, second, answers}}
				table := retryTable(conf.Retry{
					Codes: []conf.Code{"ABORTED"}, Attempts: 10, Buffer: 1 << 10, BudgetPercent: 100, Hedge: conf.Duration(time.Second),
				}, time.Minute, "one")
				c := newClient(message("m"), io.EOF)
				New(Options{Resolver: table, Backends: s}).Serve(c)
				require.Equal(t, stream.OK, c.end.Status.Code, c.end.Status.Message)
				checkCleanUp(t, table, s)
			})
		})
	}
}

// The pause doubles up to the longest, and begins anew when a backend has named one.
func TestPauses(t *testing.T) {
	r := &resend{sends: 1}
	policy := &conf.Retry{Attempts: 100, Backoff: conf.Duration(time.Second), MaxBackoff: conf.Duration(5 * time.Second)}
	pushback := &stream.Trailer{Metadata: stream.Metadata{{Key: pushbackKey, Value: "1500"}}}
	for _, want := range []time.Duration{1, 2, 4, 5, 5, 0, 1, 2} {
		trailer := &stream.Trailer{}
		if want == 0 {
			trailer = pushback
		}
		got, allowed := r.pauseBefore(policy, trailer)
		require.True(t, allowed)
		if want == 0 {
			require.Equal(t, 1500*time.Millisecond, got)
			continue
		}
		require.InDelta(t, float64(want*time.Second), float64(got), 0.2*float64(want*time.Second)+1)
	}
	r.sends = policy.Attempts
	_, allowed := r.pauseBefore(policy, nil)
	require.False(t, allowed)
}

func TestIdleTimeoutCountsFromTheLastMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		w := watchIdle(10*time.Second, func() { ended.Store(true) })
		for range 5 {
			time.Sleep(9 * time.Second)
			w.touch()
		}
		synctest.Wait()
		require.False(t, ended.Load())
		time.Sleep(9 * time.Second)
		synctest.Wait()
		require.False(t, ended.Load(), "a second before the limit")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.True(t, ended.Load())
		w.stop()
	})
	synctest.Test(t, func(t *testing.T) {
		w := watchIdle(time.Second, func() { t.Error("it has been stopped") })
		w.stop()
		time.Sleep(time.Hour)
	})
}

// slowAnswer is an answer that comes in pieces, with pauses.
type slowAnswer struct {
	*answer
	pause time.Duration
}

func (a slowAnswer) Read(p []byte) error {
	time.Sleep(a.pause)
	return a.answer.Read(p)
}

// opens hands out one stream.
type opens struct{ out stream.Outbound }

func (opens) Down(string, string) bool { return false }

func (o opens) Open(context.Context, string, string, *stream.Request) (stream.Outbound, error) {
	return o.out, nil
}

func TestMessagesKeepCallsFromBeingIdle(t *testing.T) {
	const limit = 10 * time.Second
	table := tableOf(&conf.Config{
		Clusters: map[string]*conf.Cluster{"c": {Instances: []string{"one"}}},
		Default:  &conf.Action{Cluster: "c", IdleTimeout: conf.Duration(limit)},
	})
	for pause, want := range map[time.Duration]stream.Code{limit / 3: stream.OK, 2 * limit: stream.DeadlineExceeded} {
		for _, direction := range []string{"request", "response"} {
			t.Run(fmt.Sprint(direction, " ", pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					many := messages("a", "b", "c", "d", "e", "f")
					c, a := newClient(many, io.EOF), newAnswer(many, stream.OK)
					c.complete, a.ctx = false, t.Context()
					a.awaitRequest = true
					in, out := stream.Inbound(c), stream.Outbound(a)
					if direction == "request" {
						a.ctx = c.ctx
						in = &trickling{c, pause}
					} else {
						out = slowAnswer{a, pause}
					}
					New(Options{Resolver: table, Backends: opens{out}}).Serve(in)
					require.Equal(t, want, c.end.Status.Code, c.end.Status.Message)
				})
			})
		}
	}
}

// A copy may outlive its call, but not for long, and not the Handler.
func TestMirrorEnds(t *testing.T) {
	serve := func(s *scripted) (*Handler, *resolver.Table) {
		table := tableOf(&conf.Config{
			Clusters: map[string]*conf.Cluster{"c": {Instances: []string{"one"}}, "copies": {Instances: []string{"two"}}},
			Default:  &conf.Action{Cluster: "c", Mirror: &conf.Mirror{Cluster: "copies", Percent: 100}},
		})
		h := New(Options{Resolver: table, Backends: s})
		c := newClient(message("m"), io.EOF)
		h.Serve(c)
		require.Equal(t, stream.OK, c.end.Status.Code)
		require.Zero(t, h.ActiveCalls())
		synctest.Wait()
		require.EqualValues(t, 1, table.Cluster("copies").Calls())
		return h, table
	}
	for _, copies := range []script{hangs, opensNever} {
		synctest.Test(t, func(t *testing.T) {
			_, table := serve(&scripted{scripts: []script{answers, copies}})
			time.Sleep(mirrorLinger + time.Second)
			synctest.Wait()
			require.Zero(t, table.Cluster("copies").Calls())
			require.Zero(t, table.Cluster("copies").Endpoints()[0].Active())
		})
		synctest.Test(t, func(t *testing.T) {
			h, table := serve(&scripted{scripts: []script{answers, copies}})
			h.Shutdown(t.Context())
			require.Zero(t, table.Cluster("copies").Calls())
		})
	}
}

// A call may be ended before it has a route, and while it gets another one.
func TestCallsAreEndedWhileTheyAreRouted(t *testing.T) {
	table := retryTable(conf.Retry{Codes: []conf.Code{"UNAVAILABLE"}, Attempts: 2}, 0, "one")
	h := New(Options{Resolver: table, Backends: &scripted{}})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { h.Serve(newClient(message("m"), io.EOF)) })
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	h.Shutdown(over)
	all.Wait()
	require.Zero(t, h.ActiveCalls())
}
