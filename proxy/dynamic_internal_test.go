package proxy

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// fakeBackends are instances of which one can be reached.
type fakeBackends struct {
	up     string
	down   map[string]bool // what is known to be down
	asked  []string
	onOpen func()
}

func (b *fakeBackends) Open(_ context.Context, cluster, instance string, req *stream.Request) (stream.Outbound, error) {
	b.asked = append(b.asked, cluster+" "+instance+" "+req.Authority)
	if b.onOpen != nil {
		b.onOpen()
	}
	if instance == b.up {
		return fakeOutbound{}, nil
	}
	return nil, errors.New(instance + " is down")
}

func (b *fakeBackends) Down(_, instance string) bool { return b.down[instance] }
func (b *fakeBackends) Stats() upstream.Stats        { return upstream.Stats{} }
func (b *fakeBackends) Close()                       {}

type fakeOutbound struct{ stream.Outbound }

// openedBy returns the opener of a cluster of the instances a, b and c.
func openedBy(b *fakeBackends) func(ctx context.Context) (stream.Outbound, error) {
	cfg := &conf.Config{Clusters: map[string]*conf.Cluster{"types": {Instances: []string{"a", "b", "c"}}}}
	open := (&Relay{routes: resolver.New(cfg), backends: b}).openerTo("types")
	return func(ctx context.Context) (stream.Outbound, error) { return open(ctx, new(stream.Request)) }
}

func TestDynamicOpenerTriesAllInstancesInTurn(t *testing.T) {
	b := &fakeBackends{}
	open := openedBy(b)
	_, err := open(t.Context())
	require.EqualError(t, err, "c is down")
	require.Equal(t, []string{"types a types", "types b types", "types c types"}, b.asked)
	b.up, b.asked = "c", nil
	out, err := open(t.Context())
	require.NoError(t, err)
	require.NotNil(t, out)
	require.Equal(t, []string{"types b types", "types c types"}, b.asked, "the next in turn is first")
}

func TestDynamicOpenerAsksThoseLastThatAreDown(t *testing.T) {
	b := &fakeBackends{up: "c", down: map[string]bool{"a": true, "b": true}}
	_, err := openedBy(b)(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"types c types"}, b.asked)
	b = &fakeBackends{up: "b", down: map[string]bool{"a": true, "b": true}}
	_, err = openedBy(b)(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"types c types", "types a types", "types b types"}, b.asked)
}

func TestDynamicOpenerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &fakeBackends{onOpen: cancel}
	_, err := openedBy(b)(ctx)
	require.EqualError(t, err, "a is down")
	require.Len(t, b.asked, 1)
}

// What backends tell does not end the proxy, whatever it makes of the code.
func TestDynamicPanicOfChangedIsAnError(t *testing.T) {
	var none *schema.Schema // to have one at all
	err := new(dynamic).changed(t.Context(), &source{routes: []*dynamicRoute{{}}}, none)
	require.ErrorContains(t, err, "panic: ")
}
