// Package load is the loader: it makes the calls of one scenario, checks every reply, and reads what the processes
// beside it used while it did. It does the reading itself so that the figures cover exactly the measured window.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

// drainTime is how long calls may take to end after the window; those still open then are cancelled and count as errors.
const drainTime = 30 * time.Second

// Config says what to load, and which process groups to watch.
type Config struct {
	Scenario scenario.Scenario
	Addr     string
	Key      string        // API key of gRPC calls; empty for none
	Warmup   time.Duration // load before the window: connections, pools and windows settle
	Duration time.Duration // the window
	Proxy    int           // the proxy's process group; 0 if callers reach the backend directly
	Backend  int           // the backend's process group
}

// Result is one measurement. Figures per operation are zero if there was no operation.
type Result struct {
	Ops          uint64   `json:"ops"`
	Seconds      float64  `json:"seconds"`
	Errors       int      `json:"errors"` // warm-up and end included
	ErrorSamples []string `json:"error_samples,omitempty"`

	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`

	ProxyCPU   float64 `json:"proxy_cpu_us_per_op"`
	BackendCPU float64 `json:"backend_cpu_us_per_op"`
	LoaderCPU  float64 `json:"loader_cpu_us_per_op"`
	OtherCPU   float64 `json:"other_cpu_share"` // of the whole machine: everything that is none of the three

	PeakMiB   float64 `json:"proxy_peak_mib"`
	StreamKiB float64 `json:"proxy_kib_per_idle_stream,omitempty"`
	IdleCPU   float64 `json:"proxy_idle_cpu_us_per_s,omitempty"`
}

// OpsPerSecond is the rate within the window.
func (r Result) OpsPerSecond() float64 {
	if r.Seconds == 0 {
		return 0
	}
	return float64(r.Ops) / r.Seconds
}

// Run makes one measurement. An error means that there are no figures; failed calls are counted in the Result instead.
func Run(ctx context.Context, cfg Config) (Result, error) {
	m, err := newMeter(cfg.Proxy, cfg.Backend)
	if err != nil {
		return Result{}, err
	}
	if cfg.Scenario.Kind.Protocol() != scenario.GRPC {
		client := wire.NewHTTPClient(cfg.Scenario.Callers)
		defer client.CloseIdleConnections()
		return runBusy(ctx, cfg, m, func(p *phase) []*caller { return newWebCallers(cfg, client, p) })
	}
	conns, err := dial(cfg.Addr, cfg.Scenario.Conns)
	defer closeAll(conns)
	if err != nil {
		return Result{}, err
	}
	ctx = wire.WithKey(ctx, cfg.Key)
	if cfg.Scenario.Kind == scenario.Idle {
		return runIdle(ctx, cfg, m, conns)
	}
	return runBusy(ctx, cfg, m, func(p *phase) []*caller { return newCallers(cfg.Scenario, conns, p) })
}

// runBusy keeps every caller busy through warm-up and window, and reads the meter at both ends of the window.
func runBusy(ctx context.Context, cfg Config, m *meter, make func(*phase) []*caller) (Result, error) {
	calls, cancelCalls := context.WithCancel(ctx)
	defer cancelCalls()
	var (
		now     phase
		wg      sync.WaitGroup
		callers = make(&now)
	)
	for _, c := range callers {
		wg.Go(func() { c.run(calls) }) // ends soon after the phase is over, at the latest with calls
	}

	sleep(ctx, cfg.Warmup)
	before, errBefore := m.read()
	now.set(measuring)
	sleep(ctx, cfg.Duration)
	now.set(over)
	after, errAfter := m.read()

	defer time.AfterFunc(drainTime, cancelCalls).Stop()
	wg.Wait()

	if err := errors.Join(ctx.Err(), errBefore, errAfter); err != nil {
		return Result{}, err
	}
	res := collect(callers)
	res.use(before, after)
	return res, res.usePeak(m)
}

func dial(addr string, n int) ([]*grpc.ClientConn, error) {
	conns := make([]*grpc.ClientConn, 0, n)
	for range n {
		conn, err := wire.Dial(addr)
		if err != nil {
			return conns, fmt.Errorf("dial %s: %w", addr, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func closeAll(conns []*grpc.ClientConn) {
	for _, c := range conns {
		c.Close()
	}
}

// sleep returns early only when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
