// Package kitex asks the suites of what has a server of Kitex's in it: the proxy's, its
// caller's or its backend's. Such servers that begin and end in one process break each
// other's connections, so that nothing is side by side here.
package kitex

import (
	"testing"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

func TestMain(m *testing.M) {
	handlertest.QuietKitex()
	proxytest.Main(m)
}

// TestConformance is what clients and backends of grpc-go see on Kitex's transport.
func TestConformance(t *testing.T) {
	interop := handlertest.NewInterop(t)
	for name, way := range proxytest.Ways {
		if way.Transport == conf.TransportKitex {
			t.Run(name, func(t *testing.T) { suites(t, interop, way.Target, way.Options) })
		}
	}
}

// TestKitexConformance is what clients and backends of Kitex see.
func TestKitexConformance(t *testing.T) {
	for name, way := range proxytest.Ways {
		if !way.Brief {
			t.Run(name, func(t *testing.T) { handlertest.SuiteKitex(t, way.Target, handlertest.Options{}) })
		}
	}
}

func TestDynamicConformance(t *testing.T) {
	interop := handlertest.NewInterop(t)
	for name, way := range proxytest.DynamicWays {
		if way.Transport == conf.TransportKitex {
			t.Run(name, func(t *testing.T) { suites(t, interop, way.Target, way.Options) })
		}
	}
}

func TestDynamicKitexConformance(t *testing.T) {
	for name, way := range proxytest.DynamicWays {
		if !way.Reflected {
			t.Run(name, func(t *testing.T) { handlertest.SuiteKitex(t, way.Target, handlertest.Options{}) })
		}
	}
}

// A call that a director sends on is the call that the client made.
func TestDirectorConformance(t *testing.T) {
	for name, way := range proxytest.DirectedWays {
		t.Run(name, func(t *testing.T) {
			t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, way.Target, way.Options) })
			t.Run("Kitex", func(t *testing.T) { handlertest.SuiteKitex(t, way.Target, handlertest.Options{}) })
		})
	}
}

// suites asks what ends of grpc-go ask.
func suites(t *testing.T, interop *handlertest.Interop, target handlertest.Target, opts handlertest.Options) {
	t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, target, opts) })
	t.Run("Interop", func(t *testing.T) { interop.Suite(t, target, handlertest.Options{}) })
}
