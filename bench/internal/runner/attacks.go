package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/attack"
	"github.com/kitexproxy/kitexproxy/bench/internal/child"
	"github.com/kitexproxy/kitexproxy/bench/internal/procfs"
	"github.com/kitexproxy/kitexproxy/bench/internal/report"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
)

const (
	// attackGrace bounds an attacker whose loader does not end: its calls may hang for a while after the window.
	attackGrace = 40 * time.Second
	// watchPause lies between two looks at the attacked proxy's memory.
	watchPause = 10 * time.Millisecond
)

// RunAttacks makes all attacks on all targets, as Run does with scenarios.
func (r *Runner) RunAttacks(ctx context.Context) ([]report.AttackSample, error) {
	total := r.Reps * len(r.Attacks) * len(r.Targets)
	fmt.Fprintf(r.Log, "%d attacks, about %v\n", total,
		(time.Duration(total) * (3*(r.Warmup+r.Duration) + overhead)).Round(time.Second))
	var samples []report.AttackSample
	for rep := range r.Reps {
		for _, a := range r.Attacks {
			for _, t := range inTurn(r.Targets, rep) {
				sample := report.AttackSample{Target: t.Name, Attack: a.Name, Rep: rep + 1}
				if err := r.attack(ctx, t, a, &sample); err != nil {
					sample.Failure = err.Error()
				}
				if ctx.Err() != nil {
					return samples, fmt.Errorf("interrupted after %d of %d attacks", len(samples), total)
				}
				samples = append(samples, sample)
				fmt.Fprintf(r.Log, "[%d/%d] %s\n", len(samples), total, sample)
			}
		}
	}
	return samples, nil
}

// attack has the healthy client call a new proxy three times: with nobody else, and beside the attacker, at its rate
// and at full speed.
func (r *Runner) attack(ctx context.Context, t Target, a attack.Attack, sample *report.AttackSample) (err error) {
	backend, err := r.startBackend(ctx, scenario.Healthy)
	if err != nil {
		return err
	}
	defer backend.stop(&err)
	job := loadJob{scenario: scenario.Healthy, addr: backend.addr, backend: backend.Group()}
	if t.Command != nil {
		proxy, err := r.startProxy(ctx, t, scenario.Healthy, backend.addr)
		if err != nil {
			return err
		}
		defer proxy.stop(&err)
		defer func() { err = errors.Join(proxy.Ended(), err) }()
		job.addr, job.proxy, job.key = proxy.addr, proxy.Group(), t.Key
	}
	if sample.Quiet, err = r.load(ctx, job); err != nil {
		return err
	}
	if sample.Limited, err = r.loadBeside(ctx, job, a, r.AttackRate); err != nil {
		return err
	}
	sample.Full, err = r.loadBeside(ctx, job, a, 0)
	return err
}

// loadBeside runs the loader while an attacker is at work, and looks how the proxy's memory grows.
func (r *Runner) loadBeside(ctx context.Context, job loadJob, a attack.Attack, rate int) (phase report.Attacked, err error) {
	memory, err := watch(job.proxy)
	if err != nil {
		return report.Attacked{}, err
	}
	attacker, err := r.startAttacker(job.addr, a, rate)
	if err != nil {
		memory.stop(&phase)
		return report.Attacked{}, err
	}
	phase.Healthy, err = r.load(ctx, job)
	phase.Attacker, err = attacker.stop(err)
	memory.stop(&phase)
	return phase, err
}

// attacker is a child that attacks until it is stopped.
type attacker struct {
	*child.Child
	out *bytes.Buffer
}

func (r *Runner) startAttacker(addr string, a attack.Attack, rate int) (*attacker, error) {
	var out bytes.Buffer
	c, err := child.Start("attacker", &out, r.Self, "attack", "-attack", a.Name, "-addr", addr,
		"-rate", strconv.Itoa(rate), "-pause", r.AttackPause.String(), "-duration", (r.Warmup + r.Duration + attackGrace).String())
	if err != nil {
		return nil, err
	}
	return &attacker{Child: c, out: &out}, nil
}

// stop returns the attacker's own account. It keeps err, if there is one.
func (a *attacker) stop(err error) (attack.Result, error) {
	if err := errors.Join(err, a.Stop(), a.Failed()); err != nil {
		return attack.Result{}, err
	}
	var res attack.Result
	if err := json.Unmarshal(a.out.Bytes(), &res); err != nil {
		return attack.Result{}, a.Explain(fmt.Errorf("unreadable result: %w", err))
	}
	return res, nil
}

// watcher looks at a proxy's memory again and again.
type watcher struct {
	group  *procfs.Group
	before procfs.Memory
	most   procfs.Memory
	over   chan struct{}
	wg     sync.WaitGroup
}

// watch starts a watcher of a process group; group 0 is nobody's.
func watch(group int) (*watcher, error) {
	w := &watcher{over: make(chan struct{})}
	if group == 0 {
		return w, nil
	}
	var err error
	if w.group, err = procfs.FindGroup(group); err != nil {
		return nil, fmt.Errorf("find the proxy's processes: %w", err)
	}
	if w.before, err = w.group.Memory(); err != nil {
		return nil, err
	}
	w.most = w.before
	w.wg.Go(w.look) // ends with stop
	return w, nil
}

func (w *watcher) look() {
	for {
		m, err := w.group.Memory()
		if err != nil {
			return // the proxy has ended; who runs it tells
		}
		w.most.Anon, w.most.Peak = max(w.most.Anon, m.Anon), max(w.most.Peak, m.Peak)
		select {
		case <-w.over:
			return
		case <-time.After(watchPause):
		}
	}
}

// stop notes the memory there was, and the most there has been.
func (w *watcher) stop(phase *report.Attacked) {
	close(w.over)
	w.wg.Wait()
	phase.Before, phase.Most = report.MemoryOf(w.before), report.MemoryOf(w.most)
}
