// Package handlertest says in tests what "the proxy is invisible" means. The
// same suites run with a backend alone (see Direct), which shows that they ask
// for nothing but gRPC, and with a proxy before it.
//
// Every test uses real sockets on 127.0.0.1 and looks at both ends: what the
// client sees and what the backend sees. Tests pass by events; the only times
// in them are a safety timeout that turns a hang into a failure, and those
// that gRPC itself talks about (deadlines). grpc-go is the party at both ends
// where its API can express the claim; where it cannot (trailers-only,
// END_STREAM, the exact header bytes), package rawh2 is.
//
// The package is for tests only.
package handlertest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/kitex/server"
)

// Target puts something between the clients of a test and a backend: given
// the backend's address it returns the address that clients dial. What it
// starts it ends by t.Cleanup. A Target is called once or more per test.
type Target func(t *testing.T, backendAddr string) string

// Direct is the Target that puts nothing between.
func Direct(_ *testing.T, backendAddr string) string { return backendAddr }

// Options adapts a suite to what stands between client and backend.
type Options struct {
	// Skip maps the path of a test inside the suite, such as
	// "Metadata/UserAgent", to the reason why it is skipped. A path that
	// names no test fails the suite, so that an exception does not outlive
	// its test.
	Skip map[string]string
	// KitexServer returns further options for each Kitex server that is
	// started as a backend; nil for none.
	KitexServer func() []server.Option
}

// Suite is the conformance suite with grpc-go, or raw HTTP/2, at both ends.
func Suite(t *testing.T, through Target, opts Options) {
	newSuite(t, through, opts).all(t)
}

func (s *suite) all(t *testing.T) {
	s.each(t, []testCase{
		{"Kinds", s.kinds},
		{"Messages", s.messages},
		{"Encoding", s.encoding},
		{"Metadata", s.metadata},
		{"Headers", s.headers},
		{"Status", s.status},
		{"Deadline", s.deadline},
		{"Cancel", s.cancel},
		{"Flow", s.flow},
	})
	s.checkSkips(t)
}

// defaultSafety ends what would hang. Nothing passes because of it.
const defaultSafety = 60 * time.Second

// suite is one run of the tests through one Target.
type suite struct {
	through Target
	root    string // the name of the test that runs the suite
	skip    map[string]string
	known   map[string]bool // entries of skip that have met their test
	safety  time.Duration
	// kitexServer is Options.KitexServer.
	kitexServer func() []server.Option
}

func newSuite(t *testing.T, through Target, opts Options) *suite {
	return &suite{
		through: through, root: t.Name(), skip: opts.Skip,
		known: map[string]bool{}, safety: defaultSafety, kitexServer: opts.KitexServer,
	}
}

// testCase is a named subtest. The name states what is claimed.
type testCase struct {
	name string
	run  func(t *testing.T)
}

// each runs the cases one after the other.
func (s *suite) each(t *testing.T, cases []testCase) {
	for _, c := range cases {
		s.run(t, c.name, c.run)
	}
}

// run is t.Run that honours Options.Skip.
func (s *suite) run(t *testing.T, name string, body func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		path := strings.TrimPrefix(t.Name(), s.root+"/")
		if reason, ok := s.skip[path]; ok {
			s.known[path] = true
			t.Skip(reason)
		}
		body(t)
	})
}

// checkSkips fails t for entries of Options.Skip without a test. A run that
// the flags -run, -skip or -short cut down cannot tell.
func (s *suite) checkSkips(t *testing.T) {
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" || testing.Short() {
		return
	}
	for _, path := range s.staleSkips() {
		t.Errorf("Options.Skip names %q, which is no test of this suite", path)
	}
}

// staleSkips lists the entries of Options.Skip that have met no test.
func (s *suite) staleSkips() []string {
	var stale []string
	for path := range s.skip {
		if !s.known[path] {
			stale = append(stale, path)
		}
	}
	slices.Sort(stale)
	return stale
}

// errSafety is the cause of a call's end when a test ran into the safety
// timeout.
var errSafety = errors.New("the test's safety timeout passed")

// context returns a context for the calls of a test. It has no deadline,
// because a deadline would travel to the backend as grpc-timeout; when the
// safety timeout passes it is cancelled, and the test fails.
func (s *suite) context(t *testing.T) context.Context {
	return s.contextFor(t, s.safety)
}

// contextFor is context with a timeout of its own, for tests that move much.
func (s *suite) contextFor(t *testing.T, timeout time.Duration) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(timeout, func() { cancel(errSafety) })
	t.Cleanup(func() {
		timer.Stop()
		if errors.Is(context.Cause(ctx), errSafety) {
			t.Errorf("%v (%v)", errSafety, timeout)
		}
		cancel(nil)
	})
	return ctx
}

// await returns what comes over c. If ctx ends first the test is over: what
// was awaited did not happen.
func await[T any](ctx context.Context, t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-ctx.Done():
		t.Fatalf("waited for %s: %v", what, context.Cause(ctx))
		panic("unreachable")
	}
}

// shorten cuts long bytes for a failure message.
func shorten(b []byte) string {
	if len(b) <= 32 {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%d bytes starting %q", len(b), b[:32])
}
