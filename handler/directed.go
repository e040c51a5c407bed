package handler

import (
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// ServeTo is Serve for a call whose target is known already.
func (h *Handler) ServeTo(in stream.Inbound, t *resolver.Target) { h.serve(in, known{t}) }

// known is the Resolver of a call whose target is known.
type known struct{ target *resolver.Target }

// Resolve implements Resolver.
func (k known) Resolve(*resolver.Call) *resolver.Target { return k.target }

// ServeDirected carries one call as direct does, which may block until the call's
// context ends, and has ended it when it returns. direct returns nil once another
// Handler has carried the call, or else how it ends. The call counts as one of
// this Handler's all the while: Shutdown waits for it, and a panic ends nothing
// but it.
func (h *Handler) ServeDirected(in stream.Inbound, direct func(in stream.Inbound) *stream.Trailer) {
	c := &call{in: in, request: in.Request(), ctx: in.Context()}
	defer h.recoverPanic(c)
	if !h.calls.begin(c) {
		in.Finish(failShutdown().Trailer())
		return
	}
	defer h.calls.end(c)
	if end := direct(in); end != nil {
		c.finish(end)
	}
}
