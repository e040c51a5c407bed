package proxy

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// fakeBackends are instances of which one can be reached.
type fakeBackends struct {
	backends // none: what is not asked of them
	up       string
	down     map[string]bool // what is known to be down
	asked    []string
	onOpen   func()
}

func (b *fakeBackends) Open(_ context.Context, cluster, instance string, req *stream.Request) (stream.Outbound, error) {
	b.asked = append(b.asked, cluster+" "+instance+" "+req.Authority)
	if b.onOpen != nil {
		b.onOpen()
	}
	if instance == b.up {
		return fakeOutbound{}, nil
	}
	if b.down == nil {
		b.down = make(map[string]bool)
	}
	b.down[instance] = true
	return nil, upstream.Unreachable(cluster, instance, errors.New("it is down"))
}

func (b *fakeBackends) Down(_, instance string) bool { return b.down[instance] }

type fakeOutbound struct{ stream.Outbound }

// openedBy returns the opener of a cluster of the instances a, b and c.
func openedBy(b *fakeBackends) func(ctx context.Context) (stream.Outbound, error) {
	types := cluster.New("types", &conf.Cluster{Instances: []string{"a", "b", "c"}}, cluster.Options{})
	open := (&Relay{backends: b}).openerTo(types)
	return func(ctx context.Context) (stream.Outbound, error) { return open(ctx, new(stream.Request)) }
}

func TestDynamicOpenerTriesAllInstancesInTurn(t *testing.T) {
	b := &fakeBackends{}
	open := openedBy(b)
	_, err := open(t.Context())
	require.ErrorContains(t, err, "instance c")
	require.Equal(t, []string{"types a types", "types b types", "types c types"}, b.asked)
	b.up, b.asked = "c", nil
	out, err := open(t.Context())
	require.NoError(t, err)
	require.NotNil(t, out)
	require.Equal(t, "types c types", b.asked[len(b.asked)-1])
}

func TestDynamicOpenerAsksThoseLastThatAreDown(t *testing.T) {
	b := &fakeBackends{up: "c", down: map[string]bool{"a": true, "b": true}}
	_, err := openedBy(b)(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"types c types"}, b.asked)
	b = &fakeBackends{up: "b", down: map[string]bool{"a": true, "b": true}}
	_, err = openedBy(b)(t.Context())
	require.NoError(t, err)
	require.Equal(t, "types c types", b.asked[0])
	require.Equal(t, "types b types", b.asked[len(b.asked)-1])
}

func TestDynamicOpenerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &fakeBackends{onOpen: cancel}
	_, err := openedBy(b)(ctx)
	require.ErrorContains(t, err, "instance a")
	require.Len(t, b.asked, 1)
}

// What backends tell does not end the proxy, whatever it makes of the code.
func TestDynamicPanicOfChangedIsAnError(t *testing.T) {
	var none *schema.Schema // to have one at all
	err := new(dynamic).changed(t.Context(), new(generation), &source{routes: []*dynamicRoute{{}}}, none)
	require.ErrorContains(t, err, "panic: ")
}

// TestDynamicSchemaIsAwaitedUntilItIsInUse: what backends have told is known before the
// gateway and the rules have it, and whoever says "ready" is to wait for that.
func TestDynamicSchemaIsAwaitedUntilItIsInUse(t *testing.T) {
	told, inUse := make(chan struct{}), make(chan struct{})
	src := &source{name: "s"}
	src.live = schema.NewLive(
		func(context.Context) (*schema.Schema, error) { return new(schema.Schema), nil },
		schema.LiveOptions{Changed: func(s *schema.Schema) error {
			src.told.Store(s)
			close(told)
			<-inUse
			return nil
		}},
	)
	defer src.live.Close()
	use := sync.OnceFunc(func() { close(inUse) })
	defer use()
	d := &dynamic{sources: map[string]*source{"s": src}}
	<-told
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, d.await(ctx), "no schema yet")
	use()
	require.NoError(t, d.await(t.Context()))
}
