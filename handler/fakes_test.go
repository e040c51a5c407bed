package handler

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// client is an inbound stream whose request is given beforehand.
type client struct {
	ctx      context.Context
	cancel   context.CancelFunc
	request  *bytes.Reader
	complete bool
	// readErr is returned once the request is used up. Nil means that the
	// client sends nothing more and does not half-close either.
	readErr error

	mu       sync.Mutex
	header   *stream.Header
	got      []byte
	end      *stream.Trailer
	writeErr error
}

func newClient(request []byte, readErr error) *client {
	ctx, cancel := context.WithCancel(context.Background())
	return &client{ctx: ctx, cancel: cancel, request: bytes.NewReader(request), readErr: readErr, complete: readErr == io.EOF}
}

func (c *client) Context() context.Context { return c.ctx }
func (c *client) Request() *stream.Request { return &stream.Request{Method: "/test.Service/Method"} }
func (c *client) Peer() net.Addr           { return &net.TCPAddr{} }
func (c *client) Complete() bool           { return c.complete }
func (c *client) Ready(int) bool           { return true }
func (c *client) Flush()                   {}

func (c *client) Read(p []byte) error {
	if c.request.Len() == 0 && c.readErr == nil {
		<-c.ctx.Done()
		return c.ctx.Err()
	}
	_, err := io.ReadFull(c.request, p)
	if err == io.EOF {
		return c.readErr
	}
	return err
}

func (c *client) WriteHeader(h *stream.Header) error {
	c.header = h
	return nil
}

func (c *client) Write(b []byte) error {
	if c.writeErr != nil {
		return c.writeErr
	}
	c.got = append(c.got, b...)
	return nil
}

func (c *client) Finish(t *stream.Trailer) {
	c.mu.Lock()
	if c.end == nil {
		c.end = t
	}
	c.mu.Unlock()
	c.cancel()
}

// answer is an outbound stream whose response is given beforehand.
type answer struct {
	header   *stream.Header
	response *bytes.Reader
	trailer  *stream.Trailer
	failure  *stream.Failure // ends the response instead of the trailer
	// awaitRequest holds everything back until the half-close.
	awaitRequest bool
	writeErr     error

	ctx        context.Context // of the call
	mu         sync.Mutex
	got        []byte
	halfClosed chan struct{}
	aborted    int
}

func newAnswer(response []byte, code stream.Code) *answer {
	return &answer{
		header: &stream.Header{}, response: bytes.NewReader(response),
		trailer: &stream.Trailer{Status: stream.Status{Code: code}}, halfClosed: make(chan struct{}),
	}
}

func refusal() *answer {
	a := newAnswer(nil, stream.OK)
	a.header, a.failure = nil, &stream.Failure{Reason: stream.BackendRefused, Code: stream.Unavailable, Unprocessed: true}
	return a
}

func (a *answer) Header() (*stream.Header, error) {
	if a.awaitRequest {
		select {
		case <-a.halfClosed:
		case <-a.ctx.Done():
		}
	}
	switch {
	case a.ctx.Err() != nil:
		return nil, &stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled}
	case a.header == nil && a.failure != nil:
		return nil, a.failure
	}
	return a.header, nil
}

func (a *answer) Read(p []byte) error {
	_, err := io.ReadFull(a.response, p)
	if err == nil {
		return nil
	}
	if a.failure != nil {
		return a.failure
	}
	if err == io.ErrUnexpectedEOF {
		return &stream.Failure{Reason: stream.BackendProtocol, Code: stream.Internal}
	}
	return io.EOF
}

func (a *answer) Write(b []byte, last bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, b...)
	if last {
		close(a.halfClosed)
	}
	return a.writeErr
}

func (a *answer) Ready(int) bool           { return true }
func (a *answer) Flush()                   {}
func (a *answer) Trailer() *stream.Trailer { return a.trailer }

func (a *answer) Abort() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.aborted++
}

func (a *answer) received() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Clone(a.got)
}

func (a *answer) isHalfClosed() bool {
	select {
	case <-a.halfClosed:
		return true
	default:
		return false
	}
}

// backends hands out its answers in turn; nil is an instance that is down.
type backends struct {
	answers []*answer
	opened  []string // the instances asked
	down    []string // the instances known to be down
}

func (b *backends) Down(_, instance string) bool { return slices.Contains(b.down, instance) }

var errDown = &stream.Failure{Reason: stream.BackendUnreachable, Code: stream.Unavailable, Message: "down", Unprocessed: true}

func (b *backends) Open(ctx context.Context, _, instance string, _ *stream.Request) (stream.Outbound, error) {
	b.opened = append(b.opened, instance)
	if len(b.answers) == 0 {
		return nil, errors.New("no answer left")
	}
	a := b.answers[0]
	b.answers = b.answers[1:]
	if a == nil {
		return nil, errDown
	}
	a.ctx = ctx
	return a, nil
}

// routes is a table that sends everything to one cluster.
func routes(instances ...string) *resolver.Table {
	return tableOf(&conf.Config{
		Clusters: map[string]*conf.Cluster{"c": {Instances: instances}},
		Default:  &conf.Action{Cluster: "c"},
	})
}

func tableOf(cfg *conf.Config) *resolver.Table {
	clusters := make(map[string]*cluster.Cluster)
	for name, c := range cfg.Clusters {
		clusters[name] = cluster.New(name, c, cluster.Options{})
	}
	return resolver.New(cfg, clusters, nil)
}

// clustersOf finds clusters for filters.
func clustersOf(cfg *conf.Config) func(*resolver.Target, string) *cluster.Cluster {
	table := tableOf(cfg)
	return func(_ *resolver.Target, name string) *cluster.Cluster { return table.Cluster(name) }
}

func message(payload string) []byte {
	n := len(payload)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, payload...)
}

func messages(payloads ...string) []byte {
	var all []byte
	for _, p := range payloads {
		all = append(all, message(p)...)
	}
	return all
}

// safety ends a test that would otherwise hang; tick is how often a condition
// without an event of its own is looked at.
const (
	safety = 60 * time.Second
	tick   = time.Millisecond
)

type noRoutes struct{}

func (noRoutes) Resolve(*resolver.Call) *resolver.Target { return nil }

type panicking struct{}

func (panicking) Resolve(*resolver.Call) *resolver.Target { panic("secret") }
