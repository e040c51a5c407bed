package proxy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// BenchmarkAround is what a unary call in frame mode costs with something around it:
// client and backend, which are grpc-go's, included.
//
//	go test -run - -bench Around ./proxy
func BenchmarkAround(b *testing.B) {
	for name, opts := range map[string][]proxy.Option{
		"nothing": nil,
		"a guard and an observer": {
			proxy.WithGuards(func(*intercept.Call) error { return nil }), proxy.WithObservers(proxytest.Watchful{}),
		},
		"an interceptor": {proxy.WithInterceptors(func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
			return next(ctx)
		})},
	} {
		b.Run(name, func(b *testing.B) {
			f := startFaultProxy(b, faultConfig(loopback.Free(b)), opts...)
			message := make([]byte, 1024)
			b.ReportAllocs()
			for b.Loop() {
				var reply []byte
				require.NoError(b, f.client.Invoke(context.Background(), faultHealthyMethod, &message, &reply))
			}
		})
	}
}
