// Package conformance asks of the ways through a proxy what the suites of handlertest ask of
// a backend alone: here on our own transport, between ends of grpc-go. The suites wait for
// most of their time. So what has nothing in common is asked side by side, in this package
// and by being one of its own.
package conformance

import (
	"testing"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

func TestMain(m *testing.M) { proxytest.Main(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	interop := handlertest.NewInterop(t)
	for name, way := range proxytest.Ways {
		if way.Transport != conf.TransportNative {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, way.Target, way.Options) })
			if !way.Brief {
				t.Run("Interop", func(t *testing.T) { interop.Suite(t, way.Target, handlertest.Options{}) })
			}
		})
	}
}

func TestDynamicConformance(t *testing.T) {
	t.Parallel()
	interop := handlertest.NewInterop(t)
	for name, way := range proxytest.DynamicWays {
		if way.Transport != conf.TransportNative {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !way.Changed && !way.Reflected { // these do not concern its messages
				t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, way.Target, way.Options) })
			}
			t.Run("Interop", func(t *testing.T) { interop.Suite(t, way.Target, handlertest.Options{}) })
		})
	}
}
