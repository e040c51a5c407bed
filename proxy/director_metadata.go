package proxy

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// authorityKey is where Kitex has a call's :authority.
const authorityKey = ":authority"

// withMetadata returns a call's context with its metadata as Kitex has it, and
// without any for a backend.
func withMetadata(in stream.Inbound) context.Context {
	ctx := in.Context()
	_, there := metadata.FromIncomingContext(ctx) // on Kitex's transport: what the client has sent
	if _, changed := intercept.FromContext(ctx).ChangedHeader(); changed || !there {
		ctx = metadata.NewIncomingContext(ctx, incoming(in.Request()))
	}
	return metadata.NewOutgoingContext(ctx, nil)
}

// incoming returns a request's metadata as Kitex delivers it.
func incoming(req *stream.Request) metadata.MD {
	md := metadata.MD{authorityKey: {req.Authority}, "content-type": {req.ContentType}}
	for _, f := range req.Metadata {
		md[f.Key] = append(md[f.Key], fromWire(f))
	}
	return md
}

// readOutgoing takes the metadata for the backend from the context. The error names a
// key or a value that metadata cannot have.
func (c *directedCall) readOutgoing() error {
	md, _ := metadata.FromOutgoingContext(c.ctx)
	c.req.Metadata = make(stream.Metadata, 0, len(md))
	for _, key := range slices.Sorted(maps.Keys(md)) {
		if err := c.take(strings.ToLower(key), md[key]); err != nil {
			return err
		}
	}
	return nil
}

// take adds the values of a key to what the backend is sent.
func (c *directedCall) take(key string, values []string) error {
	switch {
	case key == authorityKey && len(values) > 0:
		c.req.Authority = values[0]
		return nil
	case isProtocols(key):
		return nil
	case !httpguts.ValidHeaderFieldName(key):
		return fmt.Errorf("outgoing metadata: %q is no key", key)
	}
	for _, v := range values {
		wire := c.toWire(key, v)
		if !httpguts.ValidHeaderFieldValue(wire) {
			return fmt.Errorf("outgoing metadata %q: %q is no value; use a key that ends in -bin", key, v)
		}
		c.req.Metadata = append(c.req.Metadata, stream.Field{Key: key, Value: wire})
	}
	return nil
}

// isProtocols reports whether a key is none of custom metadata: the call itself says
// what is sent there.
func isProtocols(key string) bool {
	switch key {
	case "content-type", "content-length", "te", "host", "connection", "keep-alive", "proxy-connection",
		"transfer-encoding", "upgrade", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-status",
		"grpc-message", "grpc-status-details-bin":
		return true
	default:
		return strings.HasPrefix(key, ":")
	}
}

// binSuffix is what keys end in whose values are bytes, in base64 on the wire.
const binSuffix = "-bin"

// fromWire leaves a value that is not base64 as it is, as Kitex does.
func fromWire(f stream.Field) string {
	if !strings.HasSuffix(f.Key, binSuffix) {
		return f.Value
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(f.Value, "="))
	if err != nil {
		return f.Value
	}
	return string(b)
}

// toWire returns a value as it crosses the wire: one that is the client's as the
// client has written it.
func (c *directedCall) toWire(key, value string) string {
	if !strings.HasSuffix(key, binSuffix) {
		return value
	}
	for _, f := range c.Inbound.Request().Metadata {
		if f.Key == key && fromWire(f) == value {
			return f.Value
		}
	}
	return base64.RawStdEncoding.EncodeToString([]byte(value))
}
