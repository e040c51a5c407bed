// Package procfs asks the operating system what processes have used: processor time and memory.
package procfs

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime reads a process's CPU clock (clock_getcpuclockid(3)): user and system time of all its threads, those that
// have ended included, in nanoseconds.
//
// It is the same account as utime+stime in /proc/PID/stat, without that file's rounding to 10 ms; summing
// /proc/PID/task/*/schedstat, the other fine-grained way, would lose the threads that end within the window.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED: time on a processor, as the scheduler counts it
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// MachineBusy is the time that all processors together have been busy or taken away by the hypervisor since boot.
// It is compared with what the measured processes used, to tell a disturbed run.
func MachineBusy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachineStat(string(stat))
}
