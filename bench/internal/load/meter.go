package load

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/procfs"
)

// meter reads what the three processes and the machine have used.
type meter struct {
	proxy, backend, loader *procfs.Group
}

// newMeter looks the processes up once: a look through /proc takes a while, reading a clock a microsecond.
func newMeter(proxy, backend int) (*meter, error) {
	m := &meter{loader: procfs.Self()}
	for _, g := range []struct {
		name string
		pgid int
		into **procfs.Group
	}{{"proxy", proxy, &m.proxy}, {"backend", backend, &m.backend}} {
		if g.pgid == 0 {
			continue
		}
		found, err := procfs.FindGroup(g.pgid)
		if err != nil {
			return nil, fmt.Errorf("find the %s's processes: %w", g.name, err)
		}
		*g.into = found
	}
	return m, nil
}

// reading is processor time used up to a moment.
type reading struct {
	at                              time.Time
	proxy, backend, loader, machine time.Duration
}

func (m *meter) read() (reading, error) {
	r := reading{at: time.Now()}
	var errs [4]error
	r.proxy, errs[0] = m.proxy.CPU()
	r.backend, errs[1] = m.backend.CPU()
	r.loader, errs[2] = m.loader.CPU()
	r.machine, errs[3] = procfs.MachineBusy()
	return r, errors.Join(errs[:]...)
}

// use turns two readings into figures per operation.
func (r *Result) use(before, after reading) {
	wall := after.at.Sub(before.at)
	r.Seconds = wall.Seconds()
	proxy, backend, loader := after.proxy-before.proxy, after.backend-before.backend, after.loader-before.loader
	r.ProxyCPU, r.BackendCPU, r.LoaderCPU = r.perOp(proxy), r.perOp(backend), r.perOp(loader)

	other := after.machine - before.machine - proxy - backend - loader
	r.OtherCPU = max(0, other.Seconds()/(r.Seconds*float64(runtime.NumCPU())))
}

func (r *Result) perOp(d time.Duration) float64 {
	if r.Ops == 0 {
		return 0
	}
	return micros(d) / float64(r.Ops)
}

// usePeak notes the most memory the proxy ever had. Its process is new for each measurement, so this is the scenario's.
func (r *Result) usePeak(m *meter) error {
	memory, err := m.proxy.Memory()
	r.PeakMiB = float64(memory.Peak) / (1 << 20)
	return err
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
