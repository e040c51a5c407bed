package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/attack"
	"github.com/kitexproxy/kitexproxy/bench/internal/report"
	"github.com/kitexproxy/kitexproxy/bench/internal/runner"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/conf"
)

// TestMain lets the test binary be backend, loader and proxy, as the program itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && commands[os.Args[1]] != nil {
		os.Exit(dispatch(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func newTestRunner(t *testing.T, targets string, scenarios ...scenario.Scenario) *runner.Runner {
	t.Helper()
	picked, _, err := runner.PickTargets(list(targets), nil)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &runner.Runner{
		Targets: picked, Scenarios: scenarios, Reps: 1,
		Warmup: 50 * time.Millisecond, Duration: 200 * time.Millisecond,
		Self: self, Dir: t.TempDir(), Log: t.Output(),
	}
}

func TestSmoke(t *testing.T) {
	unary, err := scenario.ByName("unary-1k")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range checkAll(t, newTestRunner(t, "direct,mwitkow", unary)) {
		if s.Result.Ops == 0 {
			t.Errorf("no operation: %v", s)
		}
	}
}

// TestSmokeOfHTTP has the targets that are brought along: each scenario has those that speak its protocol.
func TestSmokeOfHTTP(t *testing.T) {
	var scenarios []scenario.Scenario
	for _, name := range []string{"unary-json", "function-post", "function-get"} {
		s, err := scenario.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		scenarios = append(scenarios, s)
	}
	samples := checkAll(t, newTestRunner(t, "direct,mwitkow,grpc-gateway,reverse-proxy", scenarios...))
	var ran []string
	for _, s := range samples {
		ran = append(ran, s.Scenario+" "+s.Target)
		if s.Result.Ops == 0 {
			t.Errorf("no operation: %v", s)
		}
	}
	want := []string{
		"unary-json grpc-gateway",
		"function-post direct", "function-post reverse-proxy",
		"function-get direct", "function-get reverse-proxy",
	}
	if !slices.Equal(ran, want) {
		t.Errorf("measured %q, want %q", ran, want)
	}
}

// TestConfigurationsAreGood reads the files of kitexproxy's targets as it would.
func TestConfigurationsAreGood(t *testing.T) {
	for target, load := range map[string]string{
		"observed": "unary-1k", "routed": "unary-1k", "dynamic-rule": "unary-1k", "gateway": "unary-json", "function": "function-get",
	} {
		s, err := scenario.ByName(load)
		if err != nil {
			t.Fatal(err)
		}
		r := newTestRunner(t, target, s)
		r.Kitexproxy = script(t, `echo "file: $3" >&2; exit 2`)
		samples, err := r.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, path, found := strings.Cut(samples[0].Failure, "file: ")
		if !found {
			t.Fatalf("%s: got no file: %v", target, samples[0])
		}
		if _, err := conf.Load(strings.TrimSpace(path)); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestScenarioThatNoTargetSpeaksIsRefused(t *testing.T) {
	picked, _, err := runner.PickTargets([]string{"mwitkow"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := fitting(picked, scenario.All, true); err == nil || !strings.Contains(err.Error(), "unary-json") {
		t.Errorf("got %v", err)
	}
	if err := fitting(picked, scenario.All, false); err != nil {
		t.Errorf("of all scenarios some are left out, and it is no error: %v", err)
	}
}

func TestEveryScenario(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds for each scenario")
	}
	r := newTestRunner(t, "direct,mwitkow,grpc-gateway,reverse-proxy", scenario.All...)
	r.Duration = 100 * time.Millisecond
	checkAll(t, r)
}

// checkAll asserts that every measurement was made and every call was right; never how fast they were.
func checkAll(t *testing.T, r *runner.Runner) []report.Sample {
	t.Helper()
	samples, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, s := range r.Scenarios {
		for _, target := range r.Targets {
			if target.Speaks(s.Kind.Protocol()) {
				want++
			}
		}
	}
	if len(samples) != want {
		t.Errorf("%d samples, want %d", len(samples), want)
	}
	for _, s := range samples {
		if s.Failure != "" || s.Result.Errors > 0 {
			t.Errorf("%v", s)
		}
		if proxied := s.Target != "direct"; (s.Result.PeakMiB > 0) != proxied {
			t.Errorf("proxy's peak memory is %v MiB: %v", s.Result.PeakMiB, s)
		}
	}
	return samples
}

func TestProxyThatEndsIsExplained(t *testing.T) {
	unary, _ := scenario.ByName("unary-1k")
	r := newTestRunner(t, "kitexproxy", unary)
	r.Kitexproxy = script(t, "echo 'no such flag: --listen' >&2; exit 2")
	samples, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failure := samples[0].Failure
	for _, want := range []string{"kitexproxy", "exit status 2", "no such flag: --listen"} {
		if !strings.Contains(failure, want) {
			t.Errorf("failure %q lacks %q", failure, want)
		}
	}
	if run := (report.Run{Samples: samples}); !run.Failed() {
		t.Error("the run passes for a good one")
	}
}

func TestProxyGetsItsArguments(t *testing.T) {
	unary, _ := scenario.ByName("unary-1k")
	r := newTestRunner(t, "kitexproxy", unary)
	r.Kitexproxy = script(t, `echo "got: $1 $2 $4 $6 $7" >&2; exit 2`)
	r.ProxyArgs = []string{"--mode", "frame"}
	samples, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := "got: serve --listen --backend --mode frame"; !strings.Contains(samples[0].Failure, want) {
		t.Errorf("%q lacks %q", samples[0].Failure, want)
	}
}

// TestKitexTransportIsChosenInAFile reads the file as a proxy would.
func TestKitexTransportIsChosenInAFile(t *testing.T) {
	unary, _ := scenario.ByName("unary-1k")
	r := newTestRunner(t, "kitexproxy-kitex", unary)
	r.Kitexproxy = script(t, `echo "got: $1 $2 $4"; cat "$3" >&2; exit 2`)
	r.ProxyArgs = []string{"--log-level"}
	samples, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.Dir, "kitex.yaml")
	cfg, err := conf.Load(path)
	if err != nil {
		t.Fatalf("%v; sample: %v", err, samples[0])
	}
	if cfg.Transport != conf.TransportKitex || !strings.Contains(samples[0].Failure, "transport: kitex") {
		t.Errorf("transport %q; sample: %v", cfg.Transport, samples[0])
	}
}

func TestScalingHoldsTheProxyToItsProcessors(t *testing.T) {
	one, err := scenario.ByName(scenario.ScalingName(4, 1))
	if err != nil {
		t.Fatal(err)
	}
	r := newTestRunner(t, "mwitkow", one)
	samples := checkAll(t, r)
	run := report.Run{Targets: []string{"mwitkow"}, Scenarios: []string{one.Name}, Samples: samples}
	var table strings.Builder
	if err := run.Markdown(&table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "| 4 | mwitkow | ") {
		t.Errorf("no row of figures in:\n%s", table.String())
	}

	r.Targets[0].Command = func(p runner.Proxy) ([]string, error) {
		return []string{script(t, fmt.Sprintf("echo %d processors >&2; exit 2", p.Procs))}, nil
	}
	if samples, _ := r.Run(t.Context()); !strings.Contains(samples[0].Failure, "1 processors") {
		t.Errorf("got %v", samples[0])
	}
}

// TestAttackBesideAHealthyClient asserts nothing of what the attack does.
func TestAttackBesideAHealthyClient(t *testing.T) {
	r := newTestRunner(t, "mwitkow")
	r.AttackRate = 1000
	for _, name := range []string{"rapid-reset", "garbage"} {
		a, err := attack.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		r.Attacks = append(r.Attacks, a)
	}
	samples, err := r.RunAttacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		if s.Failure != "" || s.Quiet.Ops == 0 || s.Limited.Attacker.Frames == 0 || s.Full.Attacker.Frames == 0 {
			t.Errorf("%v", s)
		}
		if s.Full.Most.Anon <= 0 || s.Limited.Before.Peak <= 0 {
			t.Errorf("the proxy has no memory: %+v", s)
		}
	}
	run := report.Run{Targets: []string{"mwitkow"}, Attacks: []string{"rapid-reset", "garbage"}, AttackSamples: samples}
	var tables strings.Builder
	if err := run.Markdown(&tables); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(tables.String(), "| rapid-reset | "); n != 2 {
		t.Errorf("%d rows, want one in each table:\n%s", n, tables.String())
	}
}

func TestOnlyThisMachineIsAttacked(t *testing.T) {
	for _, addr := range []string{"192.0.2.1:80", "localhost:80", ":80", ""} {
		if loopback(addr) == nil {
			t.Errorf("%q was taken", addr)
		}
	}
}

func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNoProcessOutlivesTheRun covers Ctrl-C, and the runner's being killed with no chance to clean up.
func TestNoProcessOutlivesTheRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			mark := fmt.Sprintf("BENCH_TEST_MARK=%d-%d", os.Getpid(), sig)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, self, "run", "-targets", "mwitkow", "-scenarios", "unary-1k", "-duration", "1m")
			cmd.Env = append(os.Environ(), mark, "TMPDIR="+t.TempDir())
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if !eventually(func() bool { return marked(t, mark) == 4 }) { // runner, backend, proxy, loader
				t.Errorf("%d processes are running, want 4", marked(t, mark))
			}
			cmd.Process.Signal(sig)
			cmd.Wait()
			if !eventually(func() bool { return marked(t, mark) == 0 }) {
				t.Errorf("%d processes are left", marked(t, mark))
			}
		})
	}
}

func eventually(holds func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return false
}

// marked counts the running processes that have the mark in their environment, which children inherit.
func marked(t *testing.T, mark string) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if env, err := os.ReadFile(f); err == nil && bytes.Contains(env, []byte(mark)) {
			n++
		}
	}
	return n
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-reps", "0"},
		{"-reps", "51"},
		{"-duration", "1ms"},
		{"-duration", "2m"},
		{"-warmup", "-1s"},
		{"-out", "results.txt"},
		{"-attack-rate", "0"},
		{"-attack-pause", "1ms"},
		{"-scaling", "-attacks"},
		{"stray"},
	} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestUnknownNamesAreAnsweredWithTheKnownOnes(t *testing.T) {
	if _, _, err := runner.PickTargets([]string{"envoy"}, nil); err == nil || !strings.Contains(err.Error(), "mwitkow") {
		t.Errorf("got %v", err)
	}
	if _, err := pick([]string{"unary"}, scenario.All, scenario.ByName); err == nil || !strings.Contains(err.Error(), "unary-1k") {
		t.Errorf("got %v", err)
	}
}
