package report

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine says what the figures were measured on.
func Machine() []Fact {
	facts := []Fact{
		{"processors", fmt.Sprintf("%d x %s", runtime.NumCPU(), cpuModel())},
		{"Go", runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH},
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		facts = append(facts, Fact{"kernel", string(bytes.TrimRight(u.Release[:], "\x00"))})
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		facts = append(facts, Fact{"load before the run", strings.Join(strings.Fields(string(load))[:3], " ")})
	}
	return facts
}

func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
