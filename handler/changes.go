package handler

import (
	"slices"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// changed returns md with a route's changes, in memory of its own unless there are
// none.
func changed(md stream.Metadata, ch *resolver.Changes) stream.Metadata {
	if ch == nil {
		return md
	}
	made := make(stream.Metadata, 0, len(md)+len(ch.Set)+len(ch.Add))
	for _, f := range md {
		goes := slices.Contains(ch.Remove, f.Key) ||
			slices.ContainsFunc(ch.Set, func(set resolver.Field) bool { return set.Key == f.Key })
		if !goes {
			made = append(made, f)
		}
	}
	for _, fields := range [][]resolver.Field{ch.Set, ch.Add} {
		for _, f := range fields {
			made = append(made, stream.Field{Key: f.Key, Value: f.Value})
		}
	}
	return made
}

// changeRequest makes the route's changes to what the backend is sent. Filters have
// been asked by then: what the operator has written is the last word.
func (c *call) changeRequest() {
	if c.target.RequestMetadata != nil {
		req := *c.request
		req.Metadata = changed(req.Metadata, c.target.RequestMetadata)
		c.request = &req
	}
}

// changeHeader makes the route's changes to the head of the response.
func (c *call) changeHeader(h *stream.Header) *stream.Header {
	if c.target.ResponseHeader == nil {
		return h
	}
	made := *h
	made.Metadata = changed(h.Metadata, c.target.ResponseHeader)
	return &made
}

// changeTrailer makes the route's changes to the end of the call, whoever has ended
// it. A RST_STREAM of the backend's has no trailers, and stays one. It needs mu,
// except in the goroutine of the call.
func (c *call) changeTrailer(t *stream.Trailer) *stream.Trailer {
	if c.trailers == nil || t.Reset != nil {
		return t
	}
	made := *t
	made.Metadata = changed(t.Metadata, c.trailers)
	return &made
}
