package cli

import (
	"os"
	"runtime/debug"
	"time"

	"github.com/cloudwego/kitex/pkg/gofunc"
)

// TuneProcess sets what belongs to the process as a whole, for a process that
// is a proxy and nothing else. main calls it before anything runs.
func TuneProcess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	w := newWorkers()
	go w.retireEvery(retireInterval) // ends with the process
	gofunc.GoFunc = w.run
}

// retireInterval is how often idle goroutines are looked at.
const retireInterval = 5 * time.Second

// gcPercent trades memory for time. A proxy's live heap is a few MiB, and Go's
// default of 100 would collect it many times a second: that was a tenth of the
// processor time of a call. An operator who wants it otherwise sets GOGC.
const gcPercent = 300
