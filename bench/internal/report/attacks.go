package report

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/kitexproxy/kitexproxy/bench/internal/attack"
	"github.com/kitexproxy/kitexproxy/bench/internal/load"
	"github.com/kitexproxy/kitexproxy/bench/internal/procfs"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/stats"
)

// AttackSample is one attack on one target, once: a healthy client without it, beside it at a rate, and beside it at
// full speed.
type AttackSample struct {
	Target  string      `json:"target"`
	Attack  string      `json:"attack"`
	Rep     int         `json:"rep"`
	Failure string      `json:"failure,omitempty"`
	Quiet   load.Result `json:"quiet"`
	Limited Attacked    `json:"limited"`
	Full    Attacked    `json:"full"`
}

// Attacked is what was seen while the attacker was at work.
type Attacked struct {
	Healthy  load.Result   `json:"healthy"`
	Attacker attack.Result `json:"attacker"`
	Before   Memory        `json:"proxy_before"`
	Most     Memory        `json:"proxy_most"`
}

// Memory is a proxy's, in MiB.
type Memory struct {
	Anon float64 `json:"anon_mib"`
	Peak float64 `json:"peak_mib"`
}

// MemoryOf puts bytes into MiB.
func MemoryOf(m procfs.Memory) Memory {
	return Memory{Anon: float64(m.Anon) / (1 << 20), Peak: float64(m.Peak) / (1 << 20)}
}

func (s AttackSample) errors() int {
	return s.Quiet.Errors + s.Limited.Healthy.Errors + s.Full.Healthy.Errors
}

// String is the line shown while measuring.
func (s AttackSample) String() string {
	head := fmt.Sprintf("rep %d %-16s %-16s", s.Rep, s.Attack, s.Target)
	if s.Failure != "" {
		return head + " FAILED: " + s.Failure
	}
	row := attackRowOf([]AttackSample{s})
	return fmt.Sprintf("%s p99 %s us, %s at the rate, %s at full speed; +%s MiB, %d errors; cut off: %s", head, figure(row.quiet.p99),
		figure(row.limited.p99), figure(row.full.p99), figure(row.anonMiB), row.errors, s.Full.Attacker)
}

// attackRow is what an attack did to a target: medians over the repetitions, but the most memory and all errors.
type attackRow struct {
	target, attack       string
	quiet, limited, full latencies
	frames               float64 // of the attacker at full speed, a second
	proxyCPU, backendCPU float64 // percent of a processor meanwhile
	otherCPU             float64
	anonMiB, peakMiB     float64
	errors, failures     int
	messages             []string
	last                 AttackSample // tells how the attacker ended
}

type latencies struct{ p50, p99 float64 }

// writeAttacks writes two tables: what others notice, and what it takes from the proxy and how it ends.
func (r Run) writeAttacks(b *strings.Builder) {
	if len(r.Attacks) == 0 {
		return
	}
	var rows []attackRow
	for _, name := range r.Attacks {
		for _, target := range r.Targets {
			if row := r.attackRow(name, target); row.failures > 0 || row.last.Rep > 0 {
				rows = append(rows, row)
			}
		}
	}
	fmt.Fprintf(b, "\n### What others notice of an attack\n\nLatency of a healthy client: %s The attacker sends %d frames a second, "+
		"and then as many as it can. Cut off, it connects again after %v.\n\n", scenario.Healthy.About, r.AttackRate, r.AttackPause)
	writeCells(b, 2, noticeColumns, rows)
	fmt.Fprint(b, "\n### What an attack takes, and how it ends\n\n")
	writeCells(b, 2, endColumns, rows)
	fmt.Fprint(b, "\nThe attacks:\n\n")
	for _, name := range r.Attacks {
		if a, err := attack.ByName(name); err == nil {
			fmt.Fprintf(b, "- `%s`: %s\n", a.Name, a.About)
		}
	}
	for _, row := range rows {
		writeMessages(b, Row{Target: row.target + ", " + row.attack, Messages: row.messages})
	}
}

func (r Run) attackRow(name, target string) attackRow {
	var (
		samples []AttackSample
		failed  []string
	)
	for _, s := range r.AttackSamples {
		switch {
		case s.Attack != name || s.Target != target:
		case s.Failure != "":
			failed = append(failed, s.Failure)
		default:
			samples = append(samples, s)
		}
	}
	row := attackRowOf(samples)
	row.target, row.attack, row.failures = target, name, len(failed)
	row.messages = append(row.messages, failed...)
	return row
}

func attackRowOf(samples []AttackSample) (row attackRow) {
	median := func(of func(AttackSample) float64) float64 {
		values := make([]float64, len(samples))
		for i, s := range samples {
			values[i] = of(s)
		}
		return stats.Median(values)
	}
	both := func(of func(AttackSample) load.Result) latencies {
		return latencies{
			p50: median(func(s AttackSample) float64 { return of(s).P50Micros }),
			p99: median(func(s AttackSample) float64 { return of(s).P99Micros }),
		}
	}
	row.quiet = both(func(s AttackSample) load.Result { return s.Quiet })
	row.limited = both(func(s AttackSample) load.Result { return s.Limited.Healthy })
	row.full = both(func(s AttackSample) load.Result { return s.Full.Healthy })
	row.frames = median(func(s AttackSample) float64 { return s.Full.Attacker.FramesPerSecond() })
	row.proxyCPU = median(func(s AttackSample) float64 { return percent(s.Full.Healthy, s.Full.Healthy.ProxyCPU) })
	row.backendCPU = median(func(s AttackSample) float64 { return percent(s.Full.Healthy, s.Full.Healthy.BackendCPU) })
	row.otherCPU = median(func(s AttackSample) float64 { return 100 * s.Full.Healthy.OtherCPU * float64(runtime.NumCPU()) })
	for _, s := range samples {
		row.anonMiB = max(row.anonMiB, max(s.Limited.Most.Anon, s.Full.Most.Anon)-s.Limited.Before.Anon)
		row.peakMiB = max(row.peakMiB, max(s.Limited.Most.Peak, s.Full.Most.Peak)-s.Limited.Before.Peak)
		row.errors += s.errors()
		for _, res := range []load.Result{s.Quiet, s.Limited.Healthy, s.Full.Healthy} {
			row.messages = append(row.messages, res.ErrorSamples...)
		}
		row.last = s
	}
	return row
}

// percent of a processor that some microseconds for each operation were.
func percent(r load.Result, perOp float64) float64 { return perOp * r.OpsPerSecond() / 1e4 }

var (
	attackName   = columnOf[attackRow]{"attack", func(r attackRow) string { return r.attack }}
	attackTarget = columnOf[attackRow]{"target", func(r attackRow) string {
		if r.errors+r.failures > 0 {
			return "**" + r.target + " (!)**"
		}
		return r.target
	}}

	noticeColumns = []columnOf[attackRow]{
		attackName, attackTarget,
		{"quiet p50 us", func(r attackRow) string { return figure(r.quiet.p50) }},
		{"p99 us", func(r attackRow) string { return figure(r.quiet.p99) }},
		{"at the rate p50 us", func(r attackRow) string { return figure(r.limited.p50) }},
		{"p99 us", func(r attackRow) string { return figure(r.limited.p99) }},
		{"x quiet", func(r attackRow) string { return figure(stats.Ratio(r.limited.p99, r.quiet.p99)) }},
		{"full speed p50 us", func(r attackRow) string { return figure(r.full.p50) }},
		{"p99 us", func(r attackRow) string { return figure(r.full.p99) }},
		{"x quiet", func(r attackRow) string { return figure(stats.Ratio(r.full.p99, r.quiet.p99)) }},
		{"errors", func(r attackRow) string {
			if r.failures > 0 {
				return fmt.Sprintf("%d, and %d run(s) failed", r.errors, r.failures)
			}
			return strconv.Itoa(r.errors)
		}},
	}
	endColumns = []columnOf[attackRow]{
		attackName, attackTarget,
		{"frames/s", func(r attackRow) string { return figure(r.frames) }},
		{"proxy CPU %", func(r attackRow) string { return figure(r.proxyCPU) }},
		{"backend CPU %", func(r attackRow) string { return figure(r.backendCPU) }},
		{"attacker CPU %", func(r attackRow) string { return figure(r.otherCPU) }},
		{"RssAnon + MiB", func(r attackRow) string { return figure(r.anonMiB) }},
		{"VmHWM + MiB", func(r attackRow) string { return figure(r.peakMiB) }},
		{"cut off at the rate", func(r attackRow) string { return r.ending(r.last.Limited) }},
		{"cut off at full speed", func(r attackRow) string { return r.ending(r.last.Full) }},
	}
)

// ending is that of the last repetition.
func (r attackRow) ending(a Attacked) string {
	if r.last.Rep == 0 {
		return "-"
	}
	return a.Attacker.String()
}
