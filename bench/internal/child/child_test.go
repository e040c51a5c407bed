package child

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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

// startReady is start for a script that says "ready" once it has come so far, and returns then.
func startReady(t *testing.T, script string) *Child {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "ready")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, "ready() { : >'"+fifo+"'; }; "+script)
	ready, err := os.Open(fifo) // returns when the script opens it
	if err != nil {
		t.Fatal(err)
	}
	ready.Close()
	return c
}

func TestStopLeavesNobody(t *testing.T) {
	for name, script := range map[string]string{
		"a single process":              "ready; exec sleep 60",
		"a worker":                      "sleep 60 & ready; wait",
		"a worker whose parent is gone": "sleep 60 & ready; exit 0",
		"an end of its own":             "ready; exit 3",
	} {
		t.Run(name, func(t *testing.T) {
			c := startReady(t, script)
			if name == "an end of its own" {
				<-c.Done()
			}
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
	c := startReady(t, "trap '' TERM; ready; while :; do sleep 0.1; done")
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
	if err := start(t, "ready; exec sleep 60").Ended(); err != nil {
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
