package procfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Group is the processes of one process group. The runner starts each child as the leader of a group of its own, so a
// proxy that forks workers (nghttpx does) is counted whole.
//
// The nil Group stands for "no process": it has used nothing.
type Group struct {
	pids []int
}

// ErrEmpty says that a process group has no running processes.
var ErrEmpty = errors.New("no processes")

// FindGroup takes down which processes are in the group now; children started later are not counted. Processes that
// have ended and only wait for their parent to notice are none.
func FindGroup(pgid int) (*Group, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	g := &Group{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // ended since ReadDir
		}
		if s, err := parseStat(string(stat)); err == nil && s.group == pgid && s.state != 'Z' {
			g.pids = append(g.pids, pid)
		}
	}
	if len(g.pids) == 0 {
		return nil, fmt.Errorf("process group %d: %w", pgid, ErrEmpty)
	}
	return g, nil
}

// Self is the calling process alone.
func Self() *Group { return &Group{pids: []int{os.Getpid()}} }

// CPU is the processor time the group's processes have used so far.
func (g *Group) CPU() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range g.processes() {
		d, err := cpuTime(pid)
		if err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum += d
	}
	return sum, nil
}

// Memory is the sum over the group's processes. The peaks of several processes need not have coincided, so the sum of
// peaks is an upper bound.
func (g *Group) Memory() (Memory, error) {
	var sum Memory
	for _, pid := range g.processes() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return Memory{}, err
		}
		m, err := parseStatus(string(status))
		if err != nil {
			return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		sum.Anon += m.Anon
		sum.Peak += m.Peak
	}
	return sum, nil
}

func (g *Group) processes() []int {
	if g == nil {
		return nil
	}
	return g.pids
}
