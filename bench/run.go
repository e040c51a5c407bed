package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/attack"
	"github.com/kitexproxy/kitexproxy/bench/internal/report"
	"github.com/kitexproxy/kitexproxy/bench/internal/runner"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
)

// buildTime is ample for building kitexproxy with nothing in Go's cache.
const buildTime = 10 * time.Minute

// options are run's flags.
type options struct {
	kitexproxy  string
	proxyArgs   string
	targets     string
	scenarios   string
	reps        int
	duration    time.Duration
	warmup      time.Duration
	out         string
	scaling     bool
	attacks     bool
	attackRate  int
	attackPause time.Duration
}

func parseOptions(args []string) (options, error) {
	flags := flag.NewFlagSet("bench run", flag.ContinueOnError)
	var o options
	flags.StringVar(&o.kitexproxy, "kitexproxy", "", "kitexproxy `binary`; without it, the one in .. is built")
	flags.StringVar(&o.proxyArgs, "proxy-args", "", "more `arguments` for kitexproxy serve, separated by spaces")
	flags.StringVar(&o.targets, "targets", "", "comma-separated `names`; without them, all that are installed of "+targetNames()+
		" (with -scaling "+strings.Join(runner.ScalingTargets, ", ")+"; with -attacks "+strings.Join(runner.AttackTargets, ", ")+")")
	flags.StringVar(&o.scenarios, "scenarios", "", "comma-separated `names` of scenarios or, with -attacks, of attacks; without them, all of "+
		strings.Join(scenario.Names(), ", ")+" (with -attacks, of "+strings.Join(attack.Names(), ", ")+")")
	flags.IntVar(&o.reps, "reps", 5, "repetitions, 1 to 50; 1 with -attacks, unless given")
	flags.DurationVar(&o.duration, "duration", 3*time.Second, "measured time of each measurement, 100ms to 1m")
	flags.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "load before each measured time, 0 to 30s")
	flags.StringVar(&o.out, "out", "", "comma-separated `files` to write besides the tables on standard output: *.md, *.json")
	flags.BoolVar(&o.scaling, "scaling", false, "measure over 1 to 1,000 connections, on 1 and 2 processors, and with 10,000 open streams")
	flags.BoolVar(&o.attacks, "attacks", false, "measure what attacks do to a healthy client")
	flags.IntVar(&o.attackRate, "attack-rate", 2000, "frames a second of an attacker that is held to a rate, 1 to 1000000")
	flags.DurationVar(&o.attackPause, "attack-pause", attack.MinPause, "time before an attacker connects again when cut off, 10ms to 1m")
	if err := parse(flags, args); err != nil {
		return options{}, err
	}
	o.fitDefaults(flags)
	return o, o.validate()
}

// fitDefaults keeps the longer sorts of runs to a few minutes, where flags do not say otherwise.
func (o *options) fitDefaults(flags *flag.FlagSet) {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.attacks && !given["reps"] {
		o.reps = 1
	}
	if (o.attacks || o.scaling) && !given["duration"] {
		o.duration = 2 * time.Second
	}
	if o.scaling && !given["warmup"] {
		o.warmup = time.Second // 1,000 connections are made in it
	}
}

// validate keeps a run bounded, and finds now what would otherwise be found after it.
func (o options) validate() error {
	switch {
	case o.reps < 1 || o.reps > 50:
		return fmt.Errorf("-reps %d is not within 1 to 50", o.reps)
	case o.duration < 100*time.Millisecond || o.duration > time.Minute:
		return fmt.Errorf("-duration %v is not within 100ms to 1m", o.duration)
	case o.warmup < 0 || o.warmup > 30*time.Second:
		return fmt.Errorf("-warmup %v is not within 0 to 30s", o.warmup)
	case o.attackRate < 1 || o.attackRate > 1_000_000:
		return fmt.Errorf("-attack-rate %d is not within 1 to 1000000", o.attackRate)
	case o.attackPause < attack.MinPause || o.attackPause > time.Minute:
		return fmt.Errorf("-attack-pause %v is not within %v to 1m", o.attackPause, attack.MinPause)
	case o.scaling && o.attacks:
		return errors.New("-scaling and -attacks are runs of their own")
	}
	for _, path := range list(o.out) {
		if ext := filepath.Ext(path); ext != ".md" && ext != ".json" {
			return fmt.Errorf("-out %s: the name must end in .md or .json", path)
		}
	}
	return nil
}

func runMain(args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	// Children end with the thread that started them (Pdeathsig); this keeps that thread the main one.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	dir, err := os.MkdirTemp("", "kitexproxy-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	r, missing, err := newRunner(ctx, o, dir)
	if err != nil {
		return err
	}
	run := newReport(r, o, args)
	run.Notes = missing
	var interrupted error
	if o.attacks {
		run.AttackSamples, interrupted = r.RunAttacks(ctx)
	} else {
		run.Samples, interrupted = r.Run(ctx)
	}
	if interrupted != nil {
		run.Notes = append(run.Notes, interrupted.Error())
	}
	return errors.Join(publish(run, list(o.out)), interrupted)
}

// newReport is the report without its samples.
func newReport(r *runner.Runner, o options, args []string) report.Run {
	run := report.Run{
		Date: time.Now().UTC().Truncate(time.Second), Command: commandLine(args),
		Reps: o.reps, Warmup: o.warmup, Duration: o.duration, Facts: r.Describe(),
	}
	for _, t := range r.Targets {
		run.Targets = append(run.Targets, t.Name)
	}
	for _, s := range r.Scenarios {
		run.Scenarios = append(run.Scenarios, s.Name)
	}
	for _, a := range r.Attacks {
		run.Attacks = append(run.Attacks, a.Name)
		run.AttackRate, run.AttackPause = o.attackRate, o.attackPause
	}
	return run
}

// newRunner also tells which targets are left out because their program is missing.
func newRunner(ctx context.Context, o options, dir string) (*runner.Runner, []string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	targets, missing, err := runner.PickTargets(list(o.targets), o.defaultTargets())
	if err != nil {
		return nil, nil, err
	}
	scenarios, attacks, err := o.pickLoads()
	if err != nil {
		return nil, nil, err
	}
	if err := fitting(targets, scenarios, o.scenarios != ""); err != nil {
		return nil, nil, err
	}
	binary, err := kitexproxyBinary(ctx, o.kitexproxy, targets, dir)
	if err != nil {
		return nil, nil, err
	}
	for i, name := range missing {
		missing[i] = name + " was left out: it is not installed here."
	}
	return &runner.Runner{
		Targets: targets, Scenarios: scenarios, Attacks: attacks, AttackRate: o.attackRate, AttackPause: o.attackPause,
		Reps: o.reps, Warmup: o.warmup, Duration: o.duration,
		Self: self, Kitexproxy: binary, ProxyArgs: strings.Fields(o.proxyArgs),
		Dir: dir, Log: os.Stderr,
	}, missing, nil
}

// fitting refuses a scenario that was asked for and that none of the targets can be loaded in. Of all there are, such
// ones are left out.
func fitting(targets []runner.Target, scenarios []scenario.Scenario, asked bool) error {
	for _, s := range scenarios {
		fits := func(t runner.Target) bool { return t.Speaks(s.Kind.Protocol()) }
		if asked && !slices.ContainsFunc(targets, fits) {
			return fmt.Errorf("scenario %s: none of the targets speaks what it is made in", s.Name)
		}
	}
	return nil
}

// kitexproxyBinary is the given binary, or one built from the module around this one if a target needs it.
func kitexproxyBinary(ctx context.Context, given string, targets []runner.Target, dir string) (string, error) {
	needed := false
	for _, t := range targets {
		needed = needed || t.Built
	}
	if !needed {
		return "", nil
	}
	if given != "" {
		return exec.LookPath(given)
	}
	path := filepath.Join(dir, "kitexproxy")
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	fmt.Fprintln(os.Stderr, "building kitexproxy from ..")
	// -C, because .. is a module of its own.
	out, err := exec.CommandContext(ctx, "go", "build", "-C", "..", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build kitexproxy from .. (run in bench/, or give -kitexproxy, or -targets without it): %w\n%s", err, out)
	}
	return path, nil
}

// defaultTargets is nil for all there are.
func (o options) defaultTargets() []string {
	switch {
	case o.scaling:
		return runner.ScalingTargets
	case o.attacks:
		return runner.AttackTargets
	}
	return runner.DefaultTargets
}

// pickLoads returns scenarios, or attacks if the run is one of those.
func (o options) pickLoads() ([]scenario.Scenario, []attack.Attack, error) {
	names := list(o.scenarios)
	switch {
	case o.attacks:
		attacks, err := pick(names, attack.All, attack.ByName)
		return nil, attacks, err
	case o.scaling:
		scenarios, err := pick(names, scenario.Scaling, scenario.ByName)
		return scenarios, nil, err
	}
	scenarios, err := pick(names, scenario.All, scenario.ByName)
	return scenarios, nil, err
}

// pick looks names up; no names mean all.
func pick[T any](names []string, all []T, byName func(string) (T, error)) ([]T, error) {
	if len(names) == 0 {
		return all, nil
	}
	var picked []T
	for _, name := range names {
		one, err := byName(name)
		if err != nil {
			return nil, err
		}
		picked = append(picked, one)
	}
	return picked, nil
}

// publish prints the tables and writes the files. Errors in the measurements are an error of the run, so that scripts see them.
func publish(run report.Run, paths []string) error {
	errs := []error{run.Markdown(os.Stdout)}
	for _, path := range paths {
		write := run.Markdown
		if filepath.Ext(path) == ".json" {
			write = run.JSON
		}
		errs = append(errs, writeFile(path, write))
	}
	if run.Failed() {
		errs = append(errs, errors.New("some calls or measurements failed; the tables mark them with (!)"))
	}
	return errors.Join(errs...)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// list splits at commas and drops what is empty.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func targetNames() string {
	var names []string
	for _, t := range runner.Targets {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

func commandLine(args []string) string {
	return strings.TrimSpace("go run . " + strings.Join(args, " "))
}
