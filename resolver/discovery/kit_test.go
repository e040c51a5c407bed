package discovery

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answers is a source that says what a test has it say.
type answers struct {
	mu        sync.Mutex
	instances []discovery.Instance
	err       error
	asked     int

	changed chan struct{} // has the source tell of a change
	closed  bool
}

func newAnswers(addresses ...string) *answers {
	a := &answers{changed: make(chan struct{})}
	a.say(nil, addresses...)
	return a
}

func (a *answers) say(err error, addresses ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instances, a.err = tcp(addresses...), err
}

func (a *answers) sayInstances(instances ...discovery.Instance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instances, a.err = instances, nil
}

func (a *answers) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func (a *answers) source() Source {
	return Source{
		Name: "answers of a test",
		Resolver: resolver("answers", func(context.Context) ([]discovery.Instance, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.asked++
			return a.instances, a.err
		}),
		Notify: func(ctx context.Context, changed func()) {
			for {
				select {
				case <-ctx.Done():
					return
				case <-a.changed:
					changed()
				}
			}
		},
		close: func() error {
			a.closed = true
			return nil
		},
	}
}

// tcp returns instances with weight 10.
func tcp(addresses ...string) []discovery.Instance {
	var all []discovery.Instance
	for _, address := range addresses {
		all = append(all, discovery.NewInstance("tcp", address, discovery.DefaultWeight, nil))
	}
	return all
}

// watched is a Watch with what it told.
type watched struct {
	*Watch
	updates chan []cluster.Instance
	log     *logText
}

// watch begins to watch, until the end of the test.
func watch(t *testing.T, source Source, refresh time.Duration) *watched {
	w := &watched{updates: make(chan []cluster.Instance, 100), log: &logText{}}
	w.Watch = NewWatch(Options{
		Cluster: "orders",
		Source:  source,
		Refresh: refresh,
		Update:  func(all []cluster.Instance) { w.updates <- all },
		Logger:  slog.New(slog.NewTextHandler(w.log, nil)),
	})
	t.Cleanup(w.Close)
	return w
}

// next waits for the instances that are handed on next, and returns their addresses.
func (w *watched) next(t *testing.T) string {
	t.Helper()
	select {
	case all := <-w.updates:
		return addresses(all)
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no update", "status: %+v\nlog: %s", w.Status(), w.log)
		return ""
	}
}

func addresses(all []cluster.Instance) string {
	var texts []string
	for _, in := range all {
		texts = append(texts, in.Address)
	}
	return strings.Join(texts, " ")
}

// logText is a log to look at while it is written.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// warnings returns how many lines warn of something that text is in.
func (l *logText) warnings(text string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, text) {
			n++
		}
	}
	return n
}
