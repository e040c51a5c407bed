// Package report turns measurements into tables and JSON.
package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/load"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
)

// Sample is one measurement: one target in one scenario, once.
type Sample struct {
	Target   string      `json:"target"`
	Scenario string      `json:"scenario"`
	Rep      int         `json:"rep"`
	Failure  string      `json:"failure,omitempty"` // why there is no result
	Result   load.Result `json:"result"`
}

// String is the line shown while measuring.
func (s Sample) String() string {
	head := fmt.Sprintf("rep %d %-13s %-10s", s.Rep, s.Scenario, s.Target)
	if s.Failure != "" {
		return head + " FAILED: " + s.Failure
	}
	r := s.Result
	line := fmt.Sprintf("%s cpu %s us/op, %s ops/s, p50 %s us, peak %s MiB", head,
		figure(r.ProxyCPU), figure(r.OpsPerSecond()), figure(r.P50Micros), figure(r.PeakMiB))
	if sc, err := scenario.ByName(s.Scenario); err == nil && sc.Kind == scenario.Idle {
		line = fmt.Sprintf("%s %s KiB a stream, peak %s MiB", head, figure(r.StreamKiB), figure(r.PeakMiB))
	}
	if r.Errors > 0 {
		line += fmt.Sprintf(", %d ERRORS: %s", r.Errors, strings.Join(r.ErrorSamples, "; "))
	}
	return line
}

// Run is everything a report is made of.
type Run struct {
	Date      time.Time     `json:"date"`
	Command   string        `json:"command"`
	Reps      int           `json:"reps"`
	Warmup    time.Duration `json:"warmup_ns"`
	Duration  time.Duration `json:"duration_ns"`
	Targets   []string      `json:"targets"`
	Scenarios []string      `json:"scenarios"`
	Facts     []Fact        `json:"facts"`
	Notes     []string      `json:"notes,omitempty"` // what the reader must know, such as targets left out
	Samples   []Sample      `json:"samples"`

	// Of a run of attacks, which has no scenarios.
	Attacks       []string       `json:"attacks,omitempty"`
	AttackRate    int            `json:"attack_rate,omitempty"` // frames a second of an attacker that is held to a rate
	AttackPause   time.Duration  `json:"attack_pause_ns,omitempty"`
	AttackSamples []AttackSample `json:"attack_samples,omitempty"`
}

// Failed tells whether any measurement has no result or counted errors.
func (r Run) Failed() bool {
	for _, s := range r.Samples {
		if s.Failure != "" || s.Result.Errors > 0 {
			return true
		}
	}
	for _, s := range r.AttackSamples {
		if s.Failure != "" || s.errors() > 0 {
			return true
		}
	}
	return false
}
