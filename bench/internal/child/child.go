// Package child starts programs so that none is left behind: each leads a process group of its own, and Stop ends the
// whole group.
package child

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/procfs"
)

const (
	termGrace = 3 * time.Second // from SIGTERM to SIGKILL
	killGrace = 2 * time.Second // from SIGKILL to giving up
)

// Child is a started program.
type Child struct {
	name   string
	cmd    *exec.Cmd
	stderr tail
	done   chan struct{}
	err    error // how it ended; read after done is closed
}

// Start runs argv. Its standard output goes to stdout (nil for nowhere), the end of its standard error is kept for
// messages. The caller must call Stop, also when the program has ended by itself.
func Start(name string, stdout io.Writer, argv ...string) (*Child, error) {
	c := &Child{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	c.cmd.Stdout = stdout
	c.cmd.Stderr = &c.stderr
	c.cmd.WaitDelay = time.Second // a forked worker may keep the pipes open after its parent
	c.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C reaches only the runner, which then stops its children in order
		Pdeathsig: syscall.SIGTERM, // should the runner be killed outright, its children still end
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go c.wait()
	return c, nil
}

// wait ends with the program; Stop sees to that. Whatever the program leaves running in its group is killed at once:
// later, once nobody is left, the group's id may be somebody else's.
func (c *Child) wait() {
	c.err = c.cmd.Wait()
	c.signal(syscall.SIGKILL)
	close(c.done)
}

// Group is the id of the child's process group.
func (c *Child) Group() int { return c.cmd.Process.Pid }

// Done is closed when the program has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Ended is nil while the program runs, and then says how it ended, with the last lines it wrote. A clean exit is an
// error too, but for a program of which one is expected: that one asks Failed.
func (c *Child) Ended() error {
	select {
	case <-c.done:
	default:
		return nil
	}
	if c.err == nil {
		return c.Explain(errors.New("ended by itself"))
	}
	return c.Explain(fmt.Errorf("ended by itself: %w", c.err))
}

// Failed waits for the program's end and says what was wrong with it.
func (c *Child) Failed() error {
	<-c.done
	if c.err == nil {
		return nil
	}
	return c.Explain(c.err)
}

// Explain adds the program's name and what it last wrote to standard error.
func (c *Child) Explain(err error) error {
	if text := c.stderr.String(); text != "" {
		return fmt.Errorf("%s: %w; it last wrote:\n%s", c.name, err, text)
	}
	return fmt.Errorf("%s: %w (it wrote nothing to standard error)", c.name, err)
}

// Stop ends the group, by force if it does not go, and returns when no process of it is left.
func (c *Child) Stop() error {
	c.signalUnlessDone(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(termGrace):
		c.signalUnlessDone(syscall.SIGKILL)
	}
	for deadline := time.Now().Add(killGrace); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if c.gone() {
			<-c.done
			return nil
		}
	}
	return fmt.Errorf("%s: process group %d is still there after SIGKILL", c.name, c.Group())
}

func (c *Child) signalUnlessDone(sig syscall.Signal) {
	select {
	case <-c.done:
	default:
		c.signal(sig)
	}
}

// signal fails only if nobody is left, which gone finds out.
func (c *Child) signal(sig syscall.Signal) { _ = syscall.Kill(-c.Group(), sig) }

// gone looks the group up. Asking kill(2) would count ended workers too, for as long as the machine's init leaves them
// unburied.
func (c *Child) gone() bool {
	_, err := procfs.FindGroup(c.Group())
	return errors.Is(err, procfs.ErrEmpty)
}
