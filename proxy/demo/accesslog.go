package demo

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// accessLog is where a proxy writes its access log: a named pipe, so that a line is read
// as soon as it is written.
type accessLog struct {
	path  string
	pipe  *os.File
	lines *bufio.Reader
}

// newAccessLog makes the pipe in a directory.
func newAccessLog(dir string) (*accessLog, error) {
	l := &accessLog{path: filepath.Join(dir, "access.log")}
	if err := syscall.Mkfifo(l.path, 0o600); err != nil {
		return nil, fmt.Errorf("%s: %w", l.path, err)
	}
	var err error
	if l.pipe, err = os.OpenFile(l.path, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	l.lines = bufio.NewReader(l.pipe)
	return l, nil
}

// next returns the next line, or why there is none before ctx, which has a deadline, ends.
func (l *accessLog) next(ctx context.Context) string {
	if deadline, ok := ctx.Deadline(); ok {
		_ = l.pipe.SetReadDeadline(deadline) // which pipes have
	}
	line, err := l.lines.ReadString('\n')
	if err != nil {
		return fmt.Sprintf("no line (%v)", err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (l *accessLog) close() { _ = l.pipe.Close() }
