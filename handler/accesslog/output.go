package accesslog

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// output is where lines go. write, refresh and close are for one goroutine, reopen may
// be called by others.
type output struct {
	name string // a path unless present is no file of its own
	log  *slog.Logger

	to      io.Writer
	file    *os.File // nil if to is the process's own
	failing bool     // the last write has failed, which has been said

	mu     sync.Mutex
	next   *os.File // in place of file, nil for none
	closed bool
}

func openOutput(name string, log *slog.Logger) (*output, error) {
	o := &output{name: name, log: log}
	switch name {
	case Stderr:
		o.to = os.Stderr
	case Stdout:
		o.to = os.Stdout
	default:
		f, err := open(name)
		if err != nil {
			return nil, err
		}
		o.to, o.file = f, f
	}
	return o, nil
}

// open opens a file for lines to be added. A named pipe that nobody reads is an error:
// opening it would otherwise wait for somebody who does.
func open(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
}

var errClosed = errors.New("the log is closed")

// reopen opens the file anew, for refresh.
func (o *output) reopen() error {
	if o.name == Stderr || o.name == Stdout {
		return nil
	}
	f, err := open(o.name)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		_ = f.Close()
		return errClosed
	}
	if o.next != nil {
		_ = o.next.Close() // nothing has been written to it
	}
	o.next = f
	return nil
}

// refresh goes on with the file that has been opened anew, and reports whether one has.
func (o *output) refresh() bool {
	o.mu.Lock()
	next := o.next
	o.next = nil
	o.mu.Unlock()
	if next == nil {
		return false
	}
	o.closeFile()
	o.to, o.file = next, next
	return true
}

// write writes b and returns how much of it. What goes wrong is said once, until it goes
// well again.
func (o *output) write(b []byte) int {
	n, err := o.to.Write(b)
	o.note(err)
	return n
}

// note says that lines cannot be written, or can be again.
func (o *output) note(err error) {
	switch {
	case err != nil && !o.failing:
		o.log.Error("the access log cannot be written, lines are lost", "output", o.name, "error", err)
	case err == nil && o.failing:
		o.log.Info("the access log is written again", "output", o.name)
	}
	o.failing = err != nil
}

// close closes what is a file.
func (o *output) close() {
	o.mu.Lock()
	next := o.next
	o.next, o.closed = nil, true
	o.mu.Unlock()
	if next != nil {
		_ = next.Close() // nothing has been written to it
	}
	if o.file != nil {
		o.closeFile()
	}
}

// closeFile notes what the system tells of earlier writes only now.
func (o *output) closeFile() {
	if err := o.file.Close(); err != nil {
		o.note(err)
	}
}
