package function

import (
	"sync/atomic"

	"golang.org/x/time/rate"
)

// logger is what slog's loggers and hclog's have in common.
type logger interface {
	Debug(msg string, args ...any)
	Error(msg string, args ...any)
}

const (
	errorsPerSecond = 10
	errorsAtOnce    = 100
)

// limited is a logger that does not have clients fill a disk by asking for what is not
// there. It may be used concurrently.
type limited struct {
	logger
	limit *rate.Limiter
	left  atomic.Int64 // errors that the log does not have or tell of yet
}

func newLimited(to logger) *limited {
	return &limited{logger: to, limit: rate.NewLimiter(errorsPerSecond, errorsAtOnce)}
}

// Error logs an error, unless there are too many.
func (l *limited) Error(msg string, args ...any) {
	if !l.limit.Allow() {
		l.left.Add(1)
		return
	}
	if n := l.left.Swap(0); n > 0 {
		l.logger.Error("errors of functions have been left out", "lines", n)
	}
	l.logger.Error(msg, args...)
}
