package child

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/procfs"
)

func start(t *testing.T, script string) *Child {
	t.Helper()
	c, err := Start("sh", nil, "/bin/sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	return c
}

func TestStopLeavesNobody(t *testing.T) {
	for name, script := range map[string]string{
		"a single process":              "exec sleep 60",
		"a worker":                      "sleep 60 & wait",
		"a worker whose parent is gone": "sleep 60 & exit 0",
		"an end of its own":             "exit 3",
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, script)
			time.Sleep(50 * time.Millisecond)
			if err := c.Stop(); err != nil {
				t.Fatal(err)
			}
			if g, err := procfs.FindGroup(c.Group()); !errors.Is(err, procfs.ErrEmpty) {
				t.Errorf("the group is still there: %+v, %v", g, err)
			}
			if err := c.Stop(); err != nil {
				t.Errorf("stopping twice: %v", err)
			}
		})
	}
}

func TestStopKillsWhoIgnoresSIGTERM(t *testing.T) {
	c := start(t, "trap '' TERM; while :; do sleep 0.1; done")
	time.Sleep(50 * time.Millisecond)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestEndCarriesTheLastWords(t *testing.T) {
	c := start(t, "echo cannot bind >&2; exit 3")
	<-c.Done()
	err := c.Ended()
	if err == nil || !strings.Contains(err.Error(), "cannot bind") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestRunningIsNoError(t *testing.T) {
	if err := start(t, "exec sleep 60").Ended(); err != nil {
		t.Error(err)
	}
}

func TestTailKeepsWholeLastLines(t *testing.T) {
	var kept tail
	for range 1000 {
		kept.Write([]byte("a line of some length\n"))
	}
	kept.Write([]byte("the last\n"))
	text := kept.String()
	if len(text) > tailSize || !strings.HasSuffix(text, "the last") || !strings.HasPrefix(text, "a line") {
		t.Errorf("kept %d bytes: %.30q ... %q", len(text), text, text[max(0, len(text)-30):])
	}
}
