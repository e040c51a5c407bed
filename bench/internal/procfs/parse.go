package procfs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

type stat struct {
	state byte
	group int
}

// parseStat reads /proc/PID/stat. The command's name comes second, in parentheses, and may itself hold spaces and
// parentheses: only the last closing one ends it.
func parseStat(s string) (stat, error) {
	end := strings.LastIndexByte(s, ')')
	if end < 0 {
		return stat{}, errors.New("no command name in stat")
	}
	fields := strings.Fields(s[end+1:]) // state, parent, group, ...
	if len(fields) < 3 {
		return stat{}, errors.New("stat ends early")
	}
	group, err := strconv.Atoi(fields[2])
	if err != nil {
		return stat{}, fmt.Errorf("process group in stat: %w", err)
	}
	return stat{state: fields[0][0], group: group}, nil
}

// Memory is what a process holds, in bytes.
type Memory struct {
	Anon int64 // resident memory that no file backs: heaps and stacks, without program code
	Peak int64 // the most that was ever resident
}

// parseStatus reads RssAnon and VmHWM from /proc/PID/status.
func parseStatus(s string) (Memory, error) {
	anon, err := statusBytes(s, "RssAnon:")
	if err != nil {
		return Memory{}, err
	}
	peak, err := statusBytes(s, "VmHWM:")
	if err != nil {
		return Memory{}, err
	}
	return Memory{Anon: anon, Peak: peak}, nil
}

func statusBytes(s, key string) (int64, error) {
	for line := range strings.Lines(s) {
		rest, ok := strings.CutPrefix(line, key)
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" {
			return 0, fmt.Errorf("status has %q, want a figure in kB", strings.TrimSpace(line))
		}
		kib, err := strconv.ParseInt(fields[0], 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("status has no %s (has the process ended?)", strings.TrimSuffix(key, ":"))
}

// parseMachineStat adds up the first line of /proc/stat without idle and iowait. Guest time, the last two fields, is
// already in user time.
func parseMachineStat(s string) (time.Duration, error) {
	line, _, _ := strings.Cut(s, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat starts with %q", line)
	}
	var ticks int64
	for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal
		if i == 3 || i == 4 {
			continue
		}
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}
