// Package runner measures every target in every scenario, with each process new for each measurement, and with the
// targets taking turns so that whatever else the machine does hits them alike.
package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/attack"
	"github.com/kitexproxy/kitexproxy/bench/internal/child"
	"github.com/kitexproxy/kitexproxy/bench/internal/load"
	"github.com/kitexproxy/kitexproxy/bench/internal/report"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

const (
	// loadGrace is how long a loader may take beyond warm-up and window. It gives up by itself well before.
	loadGrace = 90 * time.Second
	// overhead of a measurement, seen: starting and stopping three processes and letting calls end.
	overhead = 700 * time.Millisecond
)

// Runner says what to measure. Self is this program, which is also backend, loader and mwitkow's proxy.
type Runner struct {
	Targets    []Target
	Scenarios  []scenario.Scenario
	Reps       int
	Warmup     time.Duration
	Duration   time.Duration
	Self       string
	Kitexproxy string
	ProxyArgs  []string
	Dir        string    // for temporary files
	Log        io.Writer // progress

	// Of RunAttacks.
	Attacks     []attack.Attack
	AttackRate  int           // frames a second, where an attacker is held to a rate
	AttackPause time.Duration // of an attacker that has been cut off
}

// Run makes all measurements. A measurement that fails is noted in its sample and the others go on; only the end of
// ctx ends the run early, with the samples there are.
func (r *Runner) Run(ctx context.Context) ([]report.Sample, error) {
	total := r.Reps * r.fitting()
	fmt.Fprintf(r.Log, "%d measurements, about %v\n", total,
		(time.Duration(total) * (r.Warmup + r.Duration + overhead)).Round(time.Second))
	var samples []report.Sample
	for rep := range r.Reps {
		for _, s := range r.Scenarios {
			for _, t := range inTurn(fit(r.Targets, s), rep) {
				sample := r.sample(ctx, t, s, rep)
				if ctx.Err() != nil {
					return samples, fmt.Errorf("interrupted after %d of %d measurements", len(samples), total)
				}
				samples = append(samples, sample)
				fmt.Fprintf(r.Log, "[%d/%d] %s\n", len(samples), total, sample)
			}
		}
	}
	return samples, nil
}

// fitting is how many measurements a repetition has.
func (r *Runner) fitting() (n int) {
	for _, s := range r.Scenarios {
		n += len(fit(r.Targets, s))
	}
	return n
}

// fit are those of the targets that speak what the scenario is made in.
func fit(targets []Target, s scenario.Scenario) (fitting []Target) {
	for _, t := range targets {
		if t.Speaks(s.Kind.Protocol()) {
			fitting = append(fitting, t)
		}
	}
	return fitting
}

// inTurn lets another target begin in each repetition, so that none always follows the same one.
func inTurn(targets []Target, rep int) []Target {
	if len(targets) == 0 {
		return nil
	}
	at := rep % len(targets)
	return slices.Concat(targets[at:], targets[:at])
}

func (r *Runner) sample(ctx context.Context, t Target, s scenario.Scenario, rep int) report.Sample {
	sample := report.Sample{Target: t.Name, Scenario: s.Name, Rep: rep + 1}
	result, err := r.measure(ctx, t, s)
	if err != nil {
		sample.Failure = err.Error()
		return sample
	}
	sample.Result = result
	return sample
}

// measure starts backend, proxy and loader, and stops them all before it returns.
func (r *Runner) measure(ctx context.Context, t Target, s scenario.Scenario) (res load.Result, err error) {
	backend, err := r.startBackend(ctx, s)
	if err != nil {
		return load.Result{}, err
	}
	defer backend.stop(&err)

	job := loadJob{scenario: s, addr: backend.addr, backend: backend.Group()}
	if t.Command == nil {
		return r.load(ctx, job)
	}
	return r.loadThrough(ctx, t, job)
}

func (r *Runner) startBackend(ctx context.Context, s scenario.Scenario) (*server, error) {
	name, call := "backend", tryCall
	if s.Kind.Protocol() == scenario.HTTP {
		name, call = "origin", tryRequest(s)
	}
	return startServer(ctx, name, call, func(addr string) ([]string, error) {
		return []string{r.Self, name, "-listen", addr}, nil
	})
}

// startProxy starts the target's proxy before a backend at addr.
func (r *Runner) startProxy(ctx context.Context, t Target, s scenario.Scenario, addr string) (*server, error) {
	call := tryCall
	if s.Kind.Protocol() != scenario.GRPC {
		call = tryRequest(s)
	}
	return startServer(wire.WithKey(ctx, t.Key), t.Name, call, func(listen string) ([]string, error) {
		return t.Command(r.proxy(listen, addr, s.Procs))
	})
}

// loadThrough puts the target's proxy before the job's address.
func (r *Runner) loadThrough(ctx context.Context, t Target, job loadJob) (res load.Result, err error) {
	proxy, err := r.startProxy(ctx, t, job.scenario, job.addr)
	if err != nil {
		return load.Result{}, err
	}
	defer proxy.stop(&err)
	job.addr, job.proxy, job.key = proxy.addr, proxy.Group(), t.Key
	res, err = r.load(ctx, job)
	if ended := proxy.Ended(); ended != nil {
		err = errors.Join(ended, err) // the proxy's own last words first
	}
	return res, err
}

func (r *Runner) proxy(listen, backend string, procs int) Proxy {
	return Proxy{
		Listen: listen, Backend: backend,
		Dir: r.Dir, Self: r.Self, Kitexproxy: r.Kitexproxy, Args: r.ProxyArgs,
		Procs: procs,
	}
}

// loadJob is one run of the loader.
type loadJob struct {
	scenario       scenario.Scenario
	addr, key      string
	proxy, backend int // process groups
}

// load runs the loader and reads its result.
func (r *Runner) load(ctx context.Context, job loadJob) (res load.Result, err error) {
	var out bytes.Buffer
	loader, err := child.Start("loader", &out, r.Self, "load",
		"-scenario", job.scenario.Name, "-addr", job.addr, "-key", job.key,
		"-proxy", strconv.Itoa(job.proxy), "-backend", strconv.Itoa(job.backend),
		"-warmup", r.Warmup.String(), "-duration", r.Duration.String())
	if err != nil {
		return load.Result{}, err
	}
	defer func() { err = errors.Join(err, loader.Stop()) }()

	limit := r.Warmup + r.Duration + loadGrace
	select {
	case <-ctx.Done():
		return load.Result{}, ctx.Err()
	case <-time.After(limit):
		return load.Result{}, loader.Explain(fmt.Errorf("no result after %v", limit))
	case <-loader.Done():
	}
	if err := loader.Failed(); err != nil {
		return load.Result{}, err
	}
	if err := json.Unmarshal(out.Bytes(), &res); err != nil {
		return load.Result{}, loader.Explain(fmt.Errorf("unreadable result: %w", err))
	}
	return res, nil
}

// freeAddr is a loopback address nobody listens on just now. Somebody else may take it before the child does; the
// child then fails to start, and says why.
func freeAddr() (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer lis.Close()
	return lis.Addr().String(), nil
}

// Describe lists what the figures depend on beside the targets' code.
func (r *Runner) Describe() []report.Fact {
	facts := report.Machine()
	for _, t := range r.Targets {
		if v := t.version(); v != "" {
			facts = append(facts, report.Fact{Name: t.Name, Value: v})
		}
	}
	return facts
}
