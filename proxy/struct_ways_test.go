package proxy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// TestStructWaysHaveFilters: the filters of the ways are asked, once at each point
// of each method of the suites, and the ways that say so encode messages anew.
func TestStructWaysHaveFilters(t *testing.T) {
	quietKitex()
	methods := []string{"/conformance.v1.Conformance/Call"}
	for _, k := range structKinds {
		methods = append(methods, k.full())
	}
	for _, name := range []string{"EmptyCall", "UnaryCall", "StreamingInputCall", "StreamingOutputCall", "FullDuplexCall"} {
		methods = append(methods, "/grpc.testing.TestService/"+name)
	}
	tried := 0
	for name, way := range proxytest.Ways {
		if !way.HasFilters() {
			continue
		}
		tried++
		t.Run(name, func(t *testing.T) {
			client, err := grpc.NewClient("passthrough:///"+way.Target(t, startGRPCEcho(t).addr), faultDialOptions()...)
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			const echoed = "\x18\x00" // a field that need not be there
			for _, method := range methods {
				proxytest.Asked.Take()
				ctx, cancel := context.WithTimeout(t.Context(), faultSafety)
				defer cancel()
				request, reply := []byte{}, []byte{}
				if method == structKinds[3].full() {
					request = []byte(echoed)
				}
				require.NoError(t, client.Invoke(ctx, method, &request, &reply), method)
				asked := proxytest.Asked.Take()
				for _, at := range []filter.Point{filter.AtStart, filter.AtRequest, filter.AtHeader, filter.AtResponse, filter.AtEnd} {
					require.Equal(t, 1, asked[proxytest.At{Method: method, Point: at}], "%s at %s", method, at)
				}
				require.Len(t, asked, 5)
				if len(request) > 0 {
					require.Equal(t, name != "struct, changed", string(reply) == echoed)
				}
			}
		})
	}
	require.Equal(t, 4, tried)
}
