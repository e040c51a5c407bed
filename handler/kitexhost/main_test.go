package kitexhost

import (
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/handler/handlertest"
)

func TestMain(m *testing.M) {
	klog.SetLevel(klog.LevelFatal) // what goes wrong here is meant to
	goleak.VerifyTestMain(m, handlertest.LeakOptions()...)
}

const (
	safety = 60 * time.Second
	tick   = 5 * time.Millisecond
)
