package kitexgrpc

import (
	"context"
	"net"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

func TestStreamFieldsAreWhereExpected(t *testing.T) {
	require.NoError(t, fieldsErr)
	s := grpc.CreateStream(t.Context(), 1, func(int) {}, "/s/m")
	require.False(t, requestComplete(s))
	require.True(t, nothingQueued(s))
	setContentSubtype(s, "json")
	require.Equal(t, "json", s.ContentSubtype())
}

//lint:file-ignore U1000 the types here are looked at by reflection only

func TestLayoutMismatchIsNamed(t *testing.T) {
	type renamed struct {
		transport grpc.ServerTransport
		s         *grpc.Stream
	}
	type retyped struct {
		tr net.Conn
		s  *grpc.Stream
	}
	type grown struct {
		tr grpc.ServerTransport
		s  *grpc.Stream
		x  int
	}
	for _, other := range []any{renamed{}, &renamed{}, &retyped{}, &grown{}, new(int)} {
		err := compareServerConn(reflect.TypeOf(other))
		require.ErrorContains(t, err, "v0.16.3", "%T", other)
	}
	require.NoError(t, compareServerConn(reflect.TypeFor[*serverConn]()))

	for _, ctx := range []context.Context{t.Context(), context.WithValue(t.Context(), noKey{}, "x"), context.WithValue(t.Context(), noKey{}, &renamed{})} {
		require.ErrorContains(t, LimitStreams(ctx, 1), "v0.16.3")
	}

	type noState struct{ buf *struct{ c chan int } }
	type noSubtype struct{ state uint32 }
	type noBuffer struct {
		state          uint32
		contentSubtype string
	}
	type noQueue struct {
		state          uint32
		contentSubtype string
		buf            *struct{ q []int }
	}
	for _, other := range []any{noState{}, noSubtype{}, noBuffer{}, noQueue{}} {
		_, err := findStreamFields(reflect.TypeOf(other))
		require.ErrorContains(t, err, "v0.16.3", "%T", other)
	}
}

type noKey struct{}
