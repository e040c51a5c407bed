package handlertest

import (
	"testing"

	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	QuietKitex()
	goleak.VerifyTestMain(m, LeakOptions()...)
}

func TestDirect(t *testing.T) { Suite(t, Direct, Options{}) }

func TestDirectKitex(t *testing.T) { SuiteKitex(t, Direct, Options{}) }

func TestDirectInterop(t *testing.T) { Interop(t, Direct, Options{}) }
