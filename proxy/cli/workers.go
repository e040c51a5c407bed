package cli

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
)

// workers run Kitex's tasks, one of which is a call. They keep their goroutines
// for the next task: a new one has to grow its stack three times on the way
// through a call, which is another tenth.
type workers struct {
	next chan func()   // taken by an idle worker
	idle chan struct{} // holds a token for each idle worker
}

// maxIdleWorkers bounds what is kept: at 32 KiB of stack or so each.
const maxIdleWorkers = 256

func newWorkers() *workers {
	return &workers{next: make(chan func()), idle: make(chan struct{}, maxIdleWorkers)}
}

// run has task done by an idle worker, or by a new one.
func (w *workers) run(_ context.Context, task func()) {
	select {
	case w.next <- task:
	default:
		go w.work(task) // ends when enough others are idle, or retired
	}
}

func (w *workers) work(task func()) {
	for {
		safely(task)
		task = nil // not to be kept while idle
		select {
		case w.idle <- struct{}{}:
		default:
			return
		}
		task = <-w.next
		<-w.idle
		if task == nil {
			return // retired
		}
	}
}

// retire ends half of the idle workers, each time it is called.
func (w *workers) retire() {
	for range (len(w.idle) + 1) / 2 {
		select {
		case w.next <- nil:
		default:
			return
		}
	}
}

// retireEvery calls retire at regular intervals, for the rest of the process.
func (w *workers) retireEvery(interval time.Duration) {
	for range time.Tick(interval) {
		w.retire()
	}
}

// safely keeps a task that panics from ending the process, as Kitex's own pool
// does. Where a call or a connection is to end with it, others see to that.
func safely(task func()) {
	defer func() {
		if p := recover(); p != nil {
			klog.Errorf("a task panicked: %v\n%s", p, debug.Stack())
		}
	}()
	task()
}
