package cli

import (
	"sync"
	"time"
)

// linesPerSecond is ample for what goes wrong, and nothing for a disk.
const linesPerSecond = 50

// lineLimit lets linesPerSecond lines through in each second.
type lineLimit struct {
	mu      sync.Mutex
	second  time.Time // when the present second began
	lines   int       // let through in it
	leftOut int       // not let through in it
}

// allow reports whether a line may be written at now, and how many were left
// out in the second that has just ended.
func (l *lineLimit) allow(now time.Time) (ok bool, leftOut int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.second) >= time.Second {
		leftOut = l.leftOut
		l.second, l.lines, l.leftOut = now, 0, 0
	}
	if l.lines == linesPerSecond {
		l.leftOut++
		return false, leftOut
	}
	l.lines++
	return true, leftOut
}
