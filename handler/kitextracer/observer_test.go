package kitextracer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/stats"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

type startedKey struct{ name string }

// tracer is a stats.Tracer that keeps what it is told.
type tracer struct {
	name   string
	events *[]string
	info   rpcinfo.RPCInfo // of the last call that has ended
}

func (tr *tracer) Start(ctx context.Context) context.Context {
	*tr.events = append(*tr.events, tr.name+" start "+rpcinfo.GetRPCInfo(ctx).To().Method())
	return context.WithValue(ctx, startedKey{tr.name}, true)
}

func (tr *tracer) Finish(ctx context.Context) {
	tr.info = rpcinfo.GetRPCInfo(ctx)
	*tr.events = append(*tr.events, fmt.Sprintf("%s finish %v", tr.name, ctx.Value(startedKey{tr.name})))
}

// reporter is one that wants to know of messages.
type reporter struct{ tracer }

func (r *reporter) ReportStreamEvent(_ context.Context, ri rpcinfo.RPCInfo, e rpcinfo.Event) {
	*r.events = append(*r.events, fmt.Sprintf("%s %s %t", r.name, ri.To().Method(), e.Event() == stats.StreamRecv))
}

func begin(o intercept.Observer, method string) *intercept.Call {
	return intercept.Begin(intercept.NewObservers(o), intercept.Info{
		Request: &stream.Request{Method: method}, Peer: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1},
		Logger: slog.New(slog.DiscardHandler),
	})
}

func TestTracersAreTold(t *testing.T) {
	var events []string
	first, second := &tracer{name: "first", events: &events}, &reporter{tracer{name: "second", events: &events}}
	c := begin(New(0, first, second), "/shop.v1.Orders/Get")
	assert.Equal(t, true, c.Context().Value(startedKey{"first"}), "as interceptors see it")
	require.NoError(t, c.Message(intercept.Message{Direction: filter.Request, Length: 7}))
	c.Crossed(filter.Request, 1, 12)
	require.NoError(t, c.Message(intercept.Message{Direction: filter.Response, Length: 7}))
	c.Crossed(filter.Response, 1, 20)
	c.End(&stream.Trailer{Status: stream.Status{Code: 5, Message: "none"}})
	assert.Equal(t, []string{
		"first start Get", "second start Get", "second Get true", "second Get false", "second finish true", "first finish true",
	}, events)
	assertInfo(t, first.info)
}

func assertInfo(t *testing.T, ri rpcinfo.RPCInfo) {
	t.Helper()
	assert.Equal(t, "127.0.0.1:1", ri.From().Address().String())
	assert.Equal(t, "shop.v1.Orders", ri.To().ServiceName())
	in := ri.Invocation()
	assert.Equal(t, []string{"shop.v1", "Orders", "Get"}, []string{in.PackageName(), in.ServiceName(), in.MethodName()})
	st := ri.Stats()
	assert.Equal(t, []uint64{12, 20}, []uint64{st.RecvSize(), st.SendSize()})
	assert.Equal(t, codes.NotFound, status.Code(st.Error()))
	require.NotNil(t, st.GetEvent(stats.RPCStart))
	require.NotNil(t, st.GetEvent(stats.RPCFinish))
	assert.False(t, st.GetEvent(stats.RPCFinish).Time().Before(st.GetEvent(stats.RPCStart).Time()))
	assert.Equal(t, stats.StatusError, st.GetEvent(stats.RPCFinish).Status())
}

func TestCallThatEndsWithOKHasNoError(t *testing.T) {
	var events []string
	tr := &tracer{events: &events}
	begin(New(0, tr), "/a.B/C").End(&stream.Trailer{})
	require.NotNil(t, tr.info)
	assert.NoError(t, tr.info.Stats().Error())
}

func TestMethodsThatAreTooMany(t *testing.T) {
	var events []string
	tr := &tracer{events: &events}
	o := New(2, tr)
	for _, method := range []string{"1", "2"} {
		begin(o, "/a.B/"+method).End(&stream.Trailer{})
		assert.Equal(t, method, tr.info.To().Method())
	}
	begin(o, "/a.B/3").End(&stream.Trailer{})
	assert.Equal(t, "other", tr.info.To().Method())
	begin(o, "/a.B/1").End(&stream.Trailer{})
	assert.Equal(t, "1", tr.info.To().Method(), "which is known")
}

func TestSeveralObservers(t *testing.T) {
	var events []string
	first, second := &tracer{events: &events}, &tracer{events: &events}
	o := intercept.NewObservers(New(0, first), New(0, second))
	c := intercept.Begin(o, intercept.Info{Request: &stream.Request{Method: "/a.B/C"}, Logger: slog.New(slog.DiscardHandler)})
	c.End(&stream.Trailer{})
	assert.NotSame(t, first.info, second.info)
	require.NotNil(t, first.info.Stats().GetEvent(stats.RPCFinish))
	require.NotNil(t, second.info.Stats().GetEvent(stats.RPCFinish))
}

// panicking is a tracer that panics.
type panicking struct{}

func (panicking) Start(context.Context) context.Context { panic("start") }
func (panicking) Finish(context.Context)                { panic("finish") }

func TestPanicEndsNothing(t *testing.T) {
	level := klog.LevelInfo
	klog.SetLevel(klog.LevelFatal)
	defer klog.SetLevel(level)
	c := begin(New(0, panicking{}), "/a.B/C")
	assert.NotNil(t, rpcinfo.GetRPCInfo(c.Context()))
	c.End(&stream.Trailer{})
	assert.Equal(t, stream.OK, c.Outcome().Status.Code)
}
