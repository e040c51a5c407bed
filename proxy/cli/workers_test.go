package cli

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWorkersRunEveryTaskAndKeepFew(t *testing.T) {
	w := newWorkers()
	for range 3 {
		var done sync.WaitGroup
		release := make(chan struct{})
		for range 2 * maxIdleWorkers {
			done.Add(1)
			w.run(context.Background(), func() { defer done.Done(); <-release })
		}
		close(release)
		done.Wait()
	}
	w.run(context.Background(), func() { panic("in a task") })
	require.LessOrEqual(t, len(w.idle), maxIdleWorkers)
	require.Eventually(t, func() bool {
		w.retire()
		return len(w.idle) == 0
	}, 10*time.Second, time.Millisecond, "they retire when there is nothing to do")
}
