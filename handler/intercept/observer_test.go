package intercept

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// recorder is an observer that notes all it is told.
type recorder struct {
	name string
	to   *recorder // nil for itself

	mu    sync.Mutex
	notes []string
}

func (r *recorder) note(format string, args ...any) {
	if r.to != nil {
		r.to.note(r.name+": "+format, args...)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.notes)
}

func (r *recorder) Begin(*Call) { r.note("begin") }
func (r *recorder) End(c *Call) { r.note("end %v", c.Outcome().Status.Code) }

// curious is one that wants to know everything.
type curious struct{ *recorder }

func (r curious) BeginAttempt(_ *Call, a *Attempt)           { r.note("attempt %d at %s", a.Number, a.Instance) }
func (r curious) EndAttempt(_ *Call, a *Attempt)             { r.note("attempt %d: %v", a.Number, a.Result) }
func (r curious) ResponseHeader(_ *Call, md stream.Metadata) { r.note("header %v", md) }
func (r curious) Message(_ *Call, m Message)                 { r.note("%v %d", m.Direction, m.Length) }
func (r curious) BeginConn(c *Conn)                          { r.note("conn") }
func (r curious) EndConn(*Conn)                              { r.note("conn over") }

// The end is told in the opposite order of the beginning, attempts and connections
// included.
func TestOrderOfObservers(t *testing.T) {
	var r recorder
	o := NewObservers(curious{&recorder{name: "a", to: &r}}, &recorder{name: "b", to: &r}, curious{&recorder{name: "c", to: &r}})
	conn := o.BeginConn(&Conn{})
	c := Begin(o, Info{Request: &stream.Request{}, Conn: conn})
	a := c.BeginAttempt("cluster", "there")
	require.NoError(t, c.Message(Message{Direction: filter.Request, Length: 3}))
	c.WroteHeader(nil)
	a.End(cluster.Succeeded)
	c.OnEnd(func() { r.note("first") })
	c.OnEnd(func() { r.note("second") })
	c.End(ok())
	c.End(lost())
	o.EndConn(conn)
	require.Equal(t, []string{
		"a: conn", "c: conn",
		"a: begin", "b: begin", "c: begin",
		"a: attempt 1 at there", "c: attempt 1 at there",
		"a: request 3", "c: request 3",
		"a: header []", "c: header []",
		fmt.Sprintf("c: attempt 1: %v", cluster.Succeeded), fmt.Sprintf("a: attempt 1: %v", cluster.Succeeded),
		"c: end OK", "b: end OK", "a: end OK", "second", "first",
		"c: conn over", "a: conn over",
	}, r.all())
	require.Equal(t, "cluster", c.Cluster())
	require.Equal(t, 1, c.Attempts())
}

func TestNobodyIsTold(t *testing.T) {
	var none *Observers
	require.Nil(t, NewObservers())
	require.Nil(t, none.BeginConn(&Conn{}))
	none.EndConn(nil)
	require.Nil(t, NewObservers(&recorder{}).BeginConn(&Conn{}), "nobody wants to know of connections")
	var c *Call
	c.Routed("", "", "")
	c.BeginAttempt("", "").End(cluster.Succeeded)
	c.WroteHeader(nil)
	require.NoError(t, c.Message(Message{}))
	c.Crossed(filter.Request, 1, 1)
	c.End(ok())
	require.False(t, c.WantsHeader())
	require.False(t, c.WantsMessages())
	require.Nil(t, c.ResponseHeader())
	_, changed := c.ChangedHeader()
	require.False(t, changed)
}

func TestCallsEndOnce(t *testing.T) {
	r := &recorder{}
	in := newClient(t)
	c := begin(in, r)
	w := Watch(in, c)
	released := 0
	c.OnEnd(func() { released++ })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { w.Finish(&stream.Trailer{Status: stream.Status{Code: stream.Code(i)}}) })
	}
	all.Wait()
	require.Equal(t, []string{"begin", "end " + in.ended(t).Status.Code.String()}, r.all(), "the client is told the same")
	require.Equal(t, 1, released)
}

func TestObserversMakeContexts(t *testing.T) {
	type connKey struct{}
	type callKey struct{}
	conn := NewObservers(curious{&recorder{}}).BeginConn(&Conn{})
	conn.SetContext(context.WithValue(conn.Context(), connKey{}, "conn"))
	in := newClient(t)
	c := Begin(nil, Info{Request: &in.req, Conn: conn})
	require.Equal(t, "conn", c.Context().Value(connKey{}))
	c.SetContext(context.WithValue(c.Context(), callKey{}, "call"))
	ctx := Watch(in, c).Context()
	require.Equal(t, "conn", ctx.Value(connKey{}))
	require.Equal(t, "call", ctx.Value(callKey{}))
	require.Nil(t, ctx.Value("nothing"))
	require.Same(t, c, FromContext(ctx))
	require.Nil(t, FromContext(c.Context()))
}

func TestSetHeaderOfAttempts(t *testing.T) {
	md := stream.Metadata{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "a", Value: "3"}}
	a := Attempt{Header: stream.Metadata{{Key: "a", Value: "set"}, {Key: "c", Value: "new"}}}
	require.Equal(t, stream.Metadata{{Key: "b", Value: "2"}, {Key: "a", Value: "set"}, {Key: "c", Value: "new"}}, a.SetHeader(md))
	require.Equal(t, "1", md[0].Value, "which is the call's")
	a.SetState("key", 1)
	require.Equal(t, 1, a.State("key"))
	require.Nil(t, a.State("other"))
}

func TestValuesOfCalls(t *testing.T) {
	c := begin(newClient(t))
	require.Nil(t, c.Value("key"))
	c.SetValue("key", 1)
	c.SetValue("key", 2)
	c.SetValue("other", 3)
	require.Equal(t, 2, c.Value("key"))
	require.Equal(t, 3, c.Value("other"))
}

// Observers that panic do no harm, but as a call or a message begins. Others are told all
// the same: their figures of what begins and ends would be wrong otherwise.
func TestObserversThatPanic(t *testing.T) {
	in, first, last := newClient(t), &recorder{}, &recorder{}
	o := NewObservers(curious{first}, trouble{}, curious{last})
	conn := o.BeginConn(&Conn{Logger: slog.New(slog.DiscardHandler)})
	c := Begin(o, Info{Request: &in.req, Conn: conn, Logger: slog.New(slog.DiscardHandler)})
	released := false
	c.OnEnd(func() { released = true })
	c.OnEnd(func() { panic("secret") })
	a := c.BeginAttempt("", "10.0.0.1:9000")
	require.NotNil(t, a)
	a.End(cluster.Succeeded)
	c.WroteHeader(nil)
	require.ErrorContains(t, c.Message(Message{}), "internal error")
	c.End(ok())
	o.EndConn(conn)
	require.Len(t, first.all(), 8)
	require.Equal(t, first.all(), last.all())
	require.True(t, released)
}

// trouble is an observer that panics at everything.
type trouble struct{}

func (trouble) BeginConn(*Conn)                       { panic("secret") }
func (trouble) EndConn(*Conn)                         { panic("secret") }
func (trouble) Begin(*Call)                           { panic("secret") }
func (trouble) End(*Call)                             { panic("secret") }
func (trouble) BeginAttempt(*Call, *Attempt)          { panic("secret") }
func (trouble) EndAttempt(*Call, *Attempt)            { panic("secret") }
func (trouble) ResponseHeader(*Call, stream.Metadata) { panic("secret") }
func (trouble) Message(*Call, Message)                { panic("secret") }

// Calls that something is around are made for every call of a client. The next size that
// memory comes in is a sixth more.
func TestCallsFitTheirMemory(t *testing.T) {
	const header = 8 // of Go's allocator, for what is larger than 512 bytes and has pointers
	require.LessOrEqual(t, unsafe.Sizeof(Call{})+header, uintptr(704))
}
