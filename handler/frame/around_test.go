package frame

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// recorder is an observer that notes all it is told.
type recorder struct {
	mu    sync.Mutex
	notes []string
	ended chan *intercept.Call
	links func(c *intercept.Call) // what guards have done before
}

func record(links func(c *intercept.Call)) *recorder {
	return &recorder{ended: make(chan *intercept.Call, 10), links: links}
}

// around is what options want.
func (r *recorder) around(req *stream.Request) *intercept.Call {
	c := intercept.Begin(intercept.NewObservers(r), intercept.Info{Request: req, Logger: slog.New(slog.DiscardHandler)})
	if r.links != nil {
		r.links(c)
	}
	return c
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.notes)
}

func (r *recorder) Begin(*intercept.Call) { r.note("begin") }

func (r *recorder) End(c *intercept.Call) {
	r.note("end %v %s", c.Outcome().Status.Code, c.Outcome().Reason)
	r.ended <- c
}

func (r *recorder) BeginAttempt(_ *intercept.Call, a *intercept.Attempt) {
	a.Header = stream.Metadata{{Key: "x-attempt", Value: fmt.Sprint(a.Number)}}
	r.note("attempt %d", a.Number)
}

func (r *recorder) EndAttempt(_ *intercept.Call, a *intercept.Attempt) {
	r.note("attempt %d: %d", a.Number, a.Result)
}

func (r *recorder) ResponseHeader(_ *intercept.Call, md stream.Metadata) { r.note("header %v", md) }

func (r *recorder) Message(_ *intercept.Call, m intercept.Message) {
	r.note("%v %d", m.Direction, m.Length)
}

func TestObserversSeeACall(t *testing.T) {
	r := record(nil)
	p, _ := to(t, options{around: r.around}, rawh2.Options{}, echo)
	s := p.open(p.dial(rawh2.Options{}), false)
	require.NoError(t, s.Data(message, true))
	requireOK(t, p.reply(s), message)
	c := <-r.ended
	p.settles()
	notes := r.all()
	require.Equal(t, "begin", notes[0])
	require.Equal(t, "end OK ", notes[len(notes)-1])
	require.ElementsMatch(t, []string{ // in which order depends on what comes in one read
		"request 7", "attempt 1", "header []", "response 7", fmt.Sprintf("attempt 1: %d", cluster.Succeeded),
	}, notes[1:len(notes)-1])
	require.Equal(t, intercept.Count{Messages: 1, Bytes: 12}, c.Received())
	require.Equal(t, intercept.Count{Messages: 1, Bytes: 12}, c.Sent())
	require.Equal(t, "c", c.Cluster())
}

// What links change goes to the instance and to the client.
func TestLinksChangeHeads(t *testing.T) {
	for name, head := range map[string]bool{"a response": true, "trailers only": false} {
		t.Run(name, func(t *testing.T) {
			r := record(func(c *intercept.Call) {
				require.NoError(t, c.Header().Set("who", "somebody else"))
				require.NoError(t, c.Header().Remove("secret"))
				require.NoError(t, c.AddResponseHeader("x-added", "by a link"))
			})
			requests := make(chan rawh2.Fields, 1)
			p, _ := to(t, options{around: r.around}, rawh2.Options{}, func(s *rawh2.Stream) {
				requests <- s.Request()
				if head {
					echo(s)
					return
				}
				_ = s.Headers(append(rawh2.ResponseFields(), rawh2.F("grpc-status", "5")), true)
			})
			s := p.open(p.dial(rawh2.Options{}), true, rawh2.F("who", "me"), rawh2.F("secret", "1"), rawh2.F("grpc-timeout", "20S"))
			reply := p.reply(s)
			require.Equal(t, "by a link", reply.Header.Get("x-added")+reply.Trailer.Get("x-added"))
			sent := <-requests
			require.Equal(t, "somebody else", sent.Get("who"))
			require.Empty(t, sent.Get("secret"))
			require.NotEmpty(t, sent.Get("grpc-timeout"), "which is the protocol's")
			require.Equal(t, "1", sent.Get("x-attempt"))
			<-r.ended
			p.settles()
		})
	}
}

// A local reply has what links have added as well.
func TestLinksAddToLocalReplies(t *testing.T) {
	r := record(func(c *intercept.Call) { require.NoError(t, c.AddResponseHeader("x-added", "by a link")) })
	p := start(t, options{around: r.around})
	reply := p.reply(p.open(p.dial(rawh2.Options{}), true))
	requireLocal(t, reply, stream.Unavailable, stream.BackendUnreachable)
	require.Equal(t, "by a link", reply.Trailer.Get("x-added"))
	<-r.ended
	require.Equal(t, []string{"begin", "end UNAVAILABLE backend-unreachable"}, r.all())
}

func TestLinksRefuseMessages(t *testing.T) {
	for d, name := range map[filter.Direction]string{filter.Request: "request", filter.Response: "response"} {
		t.Run(name, func(t *testing.T) {
			r := record(func(c *intercept.Call) {
				left := 1
				c.OnMessage(func(of filter.Direction) error {
					if of != d {
						return nil
					}
					if left--; left < 0 {
						return intercept.Refuse(stream.RateLimited, stream.ResourceExhausted, "no more")
					}
					return nil
				})
			})
			p, _ := to(t, options{around: r.around}, rawh2.Options{}, func(s *rawh2.Stream) {
				_ = s.Headers(rawh2.ResponseFields(), false)
				if d == filter.Response {
					_ = s.Data(message, false)
					_ = s.Data(message, false)
				}
				hold(s)
			})
			s := p.open(p.dial(rawh2.Options{}), false)
			if d == filter.Request {
				require.NoError(t, s.Data(slices.Concat(message, message), false))
			}
			requireLocal(t, p.reply(s), stream.ResourceExhausted, stream.RateLimited)
			<-r.ended
			p.settles()
			require.Equal(t, 1, countOf(r.all(), "end RESOURCE_EXHAUSTED rate-limited"))
		})
	}
}

// Each attempt is told of, and its own end; the call's end once.
func TestAttemptsAreTold(t *testing.T) {
	r := record(nil)
	headers := make(chan string, 2)
	p, _ := to(t, options{around: r.around}, rawh2.Options{}, func(s *rawh2.Stream) {
		n := s.Request().Get("x-attempt")
		headers <- n
		if n == "1" {
			_ = s.Reset(http2.ErrCodeRefusedStream)
			return
		}
		echo(s)
	})
	s := p.open(p.dial(rawh2.Options{}), true)
	requireOK(t, p.reply(s), nil)
	<-r.ended
	p.settles()
	require.Equal(t, "1", <-headers)
	require.Equal(t, "2", <-headers)
	require.Equal(t, []string{
		"begin", "attempt 1", fmt.Sprintf("attempt 1: %d", cluster.Unknown), "attempt 2",
		"header []", fmt.Sprintf("attempt 2: %d", cluster.Succeeded), "end OK ",
	}, r.all())
}

// Clients that go away, at any point, end their calls once.
func TestCancelledCallsEndOnce(t *testing.T) {
	for name, script := range map[string]func(*rawh2.Stream){
		"before the response": hold,
		"inside of it": func(s *rawh2.Stream) {
			_ = s.Headers(rawh2.ResponseFields(), false)
			hold(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(nil)
			p, backend := to(t, options{around: r.around}, rawh2.Options{}, script)
			s := p.open(p.dial(rawh2.Options{}), false)
			_, err := backend.AwaitStream(p.safe(), 1)
			require.NoError(t, err)
			require.NoError(t, s.Reset(http2.ErrCodeCancel))
			<-r.ended
			p.settles()
			require.Equal(t, 1, countOf(r.all(), "end CANCELLED client-cancelled"), r.all())
			require.Equal(t, 1, countOf(r.all(), fmt.Sprintf("attempt 1: %d", cluster.Unknown)), r.all())
		})
	}
}

func countOf(notes []string, note string) int {
	n := 0
	for _, other := range notes {
		if other == note {
			n++
		}
	}
	return n
}
