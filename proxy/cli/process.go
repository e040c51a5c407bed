package cli

import (
	"os"
	"runtime/debug"

	"github.com/cloudwego/kitex/pkg/gofunc"
)

// TuneProcess sets what belongs to the process as a whole, for a process that
// is a proxy and nothing else. main calls it before anything runs.
func TuneProcess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	gofunc.GoFunc = newWorkers().run
}

// gcPercent trades memory for time. A proxy's live heap is a few MiB, and Go's
// default of 100 would collect it many times a second: that was a tenth of the
// processor time of a call. An operator who wants it otherwise sets GOGC.
const gcPercent = 300
