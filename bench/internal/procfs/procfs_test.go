package procfs

import (
	"os"
	"syscall"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       stat
		ok         bool
	}{
		{"plain", "42 (bench) S 1 40 42 0 -1 4194304 171", stat{'S', 40}, true},
		{"name with spaces and parentheses", "42 (a) R 9 (b c)) R 1 41 42 0", stat{'R', 41}, true},
		{"empty", "", stat{}, false},
		{"cut", "42 (bench) S 1", stat{}, false},
		{"no number", "42 (bench) S 1 x 42", stat{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseStat(c.text)
			if got != c.want || (err == nil) != c.ok {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	const text = "Name:\tbench\nVmPeak:\t 1300000 kB\nVmHWM:\t   20480 kB\nVmRSS:\t   18000 kB\nRssAnon:\t    9216 kB\nRssFile:\t 1 kB\n"
	got, err := parseStatus(text)
	if want := (Memory{Anon: 9 << 20, Peak: 20 << 20}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for name, bad := range map[string]string{
		"a zombie has no memory": "Name:\tbench\nState:\tZ (zombie)\n",
		"another unit":           "RssAnon:\t9 MB\nVmHWM:\t9 MB\n",
		"no number":              "RssAnon:\tx kB\nVmHWM:\t9 kB\n",
	} {
		if m, err := parseStatus(bad); err == nil {
			t.Errorf("%s: got %+v and no error", name, m)
		}
	}
}

func TestParseMachineStat(t *testing.T) {
	const text = "cpu  100 10 50 9000 700 5 4 3 60 0\ncpu0 1 2 3\n"
	got, err := parseMachineStat(text)
	if want := 172 * tick; err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2", "cpu a 2 3 4 5 6 7 8"} {
		if _, err := parseMachineStat(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestGroupSeesThisProcess(t *testing.T) {
	g, err := FindGroup(syscall.Getpgrp())
	if err != nil {
		t.Fatal(err)
	}
	if m, err := g.Memory(); err != nil || m.Peak < m.Anon || m.Anon == 0 {
		t.Errorf("memory %+v, %v", m, err)
	}
	before, err := Self().CPU()
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 20*time.Millisecond; {
	}
	if after, err := Self().CPU(); err != nil || after <= before {
		t.Errorf("processor time went from %v to %v (%v) while spinning", before, after, err)
	}
}

func TestGroupThatIsGoneIsAnError(t *testing.T) {
	if g, err := FindGroup(5_000_000); err == nil {
		t.Errorf("found %+v", g)
	}
	gone := &Group{pids: []int{5_000_000}} // Linux has at most 4,194,304
	if _, err := gone.CPU(); err == nil {
		t.Error("a process that is gone has a CPU time")
	}
	if _, err := gone.Memory(); !os.IsNotExist(err) {
		t.Errorf("memory of a process that is gone: %v", err)
	}
}

func TestNilGroupHasUsedNothing(t *testing.T) {
	var g *Group
	if d, err := g.CPU(); d != 0 || err != nil {
		t.Errorf("got %v, %v", d, err)
	}
	if m, err := g.Memory(); m != (Memory{}) || err != nil {
		t.Errorf("got %v, %v", m, err)
	}
}
