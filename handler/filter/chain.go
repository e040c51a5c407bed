package filter

import (
	"log/slog"
	"net"
	"slices"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Chain is the filters of one method in order. It must not be changed once it
// is used.
type Chain struct {
	method                       string
	request, response            Codec
	clientStreams, serverStreams bool
	awaitsFirst                  bool
	points                       [AtEnd + 1][]*Filter
}

// NewChain returns a chain without filters for a method with such messages.
func NewChain(method string, request, response Codec, clientStreams, serverStreams bool) *Chain {
	return &Chain{method: method, request: request, response: response, clientStreams: clientStreams, serverStreams: serverStreams}
}

// Add appends a filter.
func (ch *Chain) Add(f *Filter) { ch.points[f.point] = append(ch.points[f.point], f) }

// Method returns the full name of the method.
func (ch *Chain) Method() string { return ch.method }

// Filters returns all filters in the order in which a call comes by them.
func (ch *Chain) Filters() []*Filter {
	var all []*Filter
	for _, fs := range ch.points {
		all = append(all, fs...)
	}
	return all
}

// Filtered reports whether there are filters of the messages in a direction, so
// that those have to be decoded.
func (ch *Chain) Filtered(d Direction) bool { return len(ch.points[messagePoint(d)]) > 0 }

// Streams reports whether there may be any number of messages in a direction,
// rather than one.
func (ch *Chain) Streams(d Direction) bool {
	if d == Request {
		return ch.clientStreams
	}
	return ch.serverStreams
}

// AwaitFirst has the backend of a client stream not asked before its first
// message has gone through the filters, which may choose another cluster then.
func (ch *Chain) AwaitFirst() { ch.awaitsFirst = true }

// AwaitsFirst reports whether the first message of a request comes before its
// backend is asked: where there is one only, and after AwaitFirst.
func (ch *Chain) AwaitsFirst() bool {
	return ch.Filtered(Request) && (!ch.clientStreams || ch.awaitsFirst)
}

func (ch *Chain) codec(d Direction) Codec {
	if d == Request {
		return ch.request
	}
	return ch.response
}

func messagePoint(d Direction) Point {
	if d == Request {
		return AtRequest
	}
	return AtResponse
}

// CallInfo is what a chain needs to know of a call.
type CallInfo struct {
	Request *stream.Request // as the client sent it
	Peer    net.Addr
	Cluster string
	Route   string
	Logger  *slog.Logger // for filters that panic
	// Exits is called when a filter ends its goroutine (runtime.Goexit), which is that of
	// the Run's caller: nothing can keep it from ending, with no more than its deferred
	// calls. nil is not called.
	Exits func(error)
}

// Begin returns the chain at work on one call.
func (ch *Chain) Begin(info CallInfo) *Run {
	r := &Run{chain: ch, log: info.Logger, exits: info.Exits}
	r.shared = shared{request: info.Request, peer: info.Peer, cluster: info.Cluster, route: info.Route}
	r.shared.requestHeader.Begin(slices.Clone(info.Request.Metadata))
	r.requests = Call{shared: &r.shared, direction: Request}
	r.responses = Call{shared: &r.shared, direction: Response}
	r.shared.responseHeader.Seal()
	r.shared.responseTrailer.Seal()
	return r
}
