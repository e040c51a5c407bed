package handler

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// mirrorKey is in the metadata of copies of calls, for backends to tell them.
const mirrorKey = "x-kitexproxy-mirror"

const (
	// maxMirrorQueue is how many bytes of a request may wait for a copy's backend.
	// A copy that falls further behind is given up.
	maxMirrorQueue = 256 << 10
	// mirrorLinger is how long a copy may go on when its call has ended.
	mirrorLinger = 5 * time.Second
)

// mirrors are the copies under way.
type mirrors struct {
	ctx     context.Context // of all
	end     context.CancelFunc
	running sync.WaitGroup
}

// mirror is the copy of a call that goes to another cluster: what the backend is sent
// of the request, at the same time. What comes back is thrown away. The call notices
// nothing of it, whatever becomes of the copy. A nil mirror is none.
type mirror struct {
	backends Backends
	cluster  *cluster.Cluster
	request  *stream.Request
	affinity string
	ctx      context.Context
	cancel   context.CancelFunc
	lingers  atomic.Bool // it may outlive the call

	mu      sync.Mutex
	queue   [][]byte
	waiting int           // bytes in queue
	ended   bool          // the request is complete with what is in queue
	more    chan struct{} // has an item once there is something new
}

// newMirror starts a copy of c, if its route has one made of it; else it returns nil.
// The copy runs by itself, and ends mirrorLinger after c at the latest.
func (h *Handler) newMirror(c *call) *mirror {
	to := c.target.Mirror
	if to == nil || rand.Float64() >= to.Share {
		return nil
	}
	m := &mirror{
		backends: h.opts.Backends, cluster: to.Cluster, request: markedAsMirror(c.request),
		affinity: tries.Affinity(to.Cluster, c.in.Peer(), c.request.Metadata.Get), more: make(chan struct{}, 1),
	}
	if deadline, ok := c.ctx.Deadline(); ok {
		m.ctx, m.cancel = context.WithDeadline(h.mirrors.ctx, deadline)
	} else {
		m.ctx, m.cancel = context.WithCancel(h.mirrors.ctx)
	}
	context.AfterFunc(c.ctx, m.callEnded)
	h.mirrors.running.Go(func() { // ends with the copy, and that with ctx; Shutdown waits for it
		defer m.cancel()
		m.run()
	})
	return m
}

func markedAsMirror(req *stream.Request) *stream.Request {
	made := *req
	made.Metadata = changed(req.Metadata, &resolver.Changes{Set: []resolver.Field{{Key: mirrorKey, Value: "true"}}})
	return &made
}

// callEnds says that the call of ctx is about to end. If it has not been cancelled,
// the copy may go on for a while.
func (m *mirror) callEnds(ctx context.Context) {
	if m != nil && ctx.Err() == nil {
		m.lingers.Store(true)
	}
}

// callEnded bounds what is left of a copy whose call has ended.
func (m *mirror) callEnded() {
	if !m.lingers.Load() {
		m.cancel()
		return
	}
	linger := time.AfterFunc(mirrorLinger, m.cancel)
	context.AfterFunc(m.ctx, func() { linger.Stop() })
}

// run carries the copy from its beginning to its end.
func (m *mirror) run() {
	if m.cluster.Enter() != nil {
		return
	}
	defer m.cluster.Leave()
	out, instance := m.open()
	if out == nil {
		return
	}
	var writer sync.WaitGroup
	writer.Go(func() { m.send(out) }) // ends with ctx
	result := m.discard(out)
	m.cancel()
	out.Abort()
	writer.Wait()
	instance.End(result)
}

// open opens the copy's stream as that of a call is; it returns nil if that fails.
func (m *mirror) open() (stream.Outbound, *cluster.Endpoint) {
	var t tries.Tries
	t.Begin(m.cluster, m.affinity)
	name := m.cluster.Name()
	for {
		instance, none := t.Next(func(address string) bool { return m.backends.Down(name, address) })
		if none != nil {
			return nil, nil
		}
		instance.Begin()
		out, err := m.backends.Open(m.ctx, name, instance.Address(), m.request)
		if err == nil {
			return out, instance
		}
		f := stream.AsFailure(err)
		if m.ctx.Err() != nil { // which says nothing of the instance
			instance.End(cluster.Unknown)
			return nil, nil
		}
		instance.End(tries.ResultOfFailure(f, false))
		if !t.MayGoOn(f) {
			return nil, nil
		}
	}
}

// add queues a part of the request. last completes it.
func (m *mirror) add(b []byte, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return
	}
	if m.waiting+len(b) > maxMirrorQueue {
		m.queue = nil
		m.cancel()
		return
	}
	m.queue = append(m.queue, b)
	m.waiting += len(b)
	m.ended = last
	select {
	case m.more <- struct{}{}:
	default: // it is known that there is more
	}
}

// send moves what is queued to the backend, until it has all, or takes no more.
func (m *mirror) send(out stream.Outbound) {
	for {
		queue, ended := m.take()
		for i, b := range queue {
			if out.Write(b, ended && i == len(queue)-1) != nil {
				return // why is the response's to tell
			}
			m.sent(len(b))
		}
		out.Flush()
		if ended {
			return
		}
		select {
		case <-m.more:
		case <-m.ctx.Done():
			return
		}
	}
}

// take returns what is queued, and whether that completes the request.
func (m *mirror) take() (queue [][]byte, ended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue, m.queue = m.queue, nil
	return queue, m.ended
}

// isComplete reports whether the whole request has come.
func (m *mirror) isComplete() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

// sent says that n bytes wait no longer.
func (m *mirror) sent(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting -= n
}

// discard reads a response to its end, and returns what it says of the instance.
func (m *mirror) discard(out stream.Outbound) cluster.Result {
	header, err := out.Header()
	if err == nil {
		response := pump{from: &frames{src: out, onWait: out}, write: func([]byte) error { return nil }}
		err = response.run()
	}
	if err != nil {
		return tries.ResultOfFailure(stream.AsFailure(err), header == nil && m.isComplete())
	}
	return tries.ResultOf(out.Trailer().Status.Code)
}

// mirrored is where the request of c goes: to out, and to its copy if there is one.
func (c *call) mirrored(out stream.Outbound) stream.Outbound {
	if c.mirror == nil {
		return out
	}
	return mirrored{out, c.mirror}
}

// mirrored is an outbound stream whose request is copied.
type mirrored struct {
	stream.Outbound
	mirror *mirror
}

func (m mirrored) Write(b []byte, last bool) error {
	m.mirror.add(b, last)
	return m.Outbound.Write(b, last)
}
