package cli

import (
	"os"
	"runtime/debug"
	"time"

	"github.com/cloudwego/kitex/pkg/gofunc"

	"github.com/kitexproxy/kitexproxy/conf"
)

// TuneProcess sets what belongs to the process as a whole, for a process that
// is a proxy and nothing else. main calls it before anything runs.
func TuneProcess() {
	w := newWorkers()
	go w.retireEvery(retireInterval) // ends with the process
	gofunc.GoFunc = w.run
}

// retireInterval is how often idle goroutines are looked at.
const retireInterval = 5 * time.Second

// tuneMemory sets how much garbage is let pile up, for the transport that makes
// it, unless the operator has set GOGC.
func tuneMemory(transport string) {
	if os.Getenv("GOGC") == "" && transport == conf.TransportKitex {
		debug.SetGCPercent(kitexGCPercent)
	}
}

// kitexGCPercent trades memory for time. A proxy's live heap is a few MiB, and
// with Go's default of 100 the garbage of Kitex's transport would have it
// collected many times a second: that was a tenth of the processor time of a
// call. The native transport makes too little garbage for that to matter.
const kitexGCPercent = 300
