package inproc

import (
	"context"
	"encoding/base64"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

const (
	binarySuffix = "-bin"
	userAgentKey = "user-agent"
)

// outgoing returns the metadata that ctx has for a call, as it crosses the wire.
// The error, of what cannot cross it, has a gRPC status.
func outgoing(ctx context.Context, userAgent string) (stream.Metadata, error) {
	md, _ := metadata.FromOutgoingContext(ctx)
	if userAgent == "" && len(md) == 0 {
		return nil, nil
	}
	out := make(stream.Metadata, 0, 1+len(md))
	if userAgent != "" {
		out = append(out, stream.Field{Key: userAgentKey, Value: userAgent})
	}
	for key, values := range md {
		if isReserved(key) {
			continue
		}
		if !isKey(key) {
			return nil, status.Errorf(codes.Internal, "metadata key %q: only a-z, 0-9, '-', '_' and '.' may be in one", key)
		}
		for _, v := range values {
			wire, ok := toWire(key, v)
			if !ok {
				return nil, status.Errorf(codes.Internal,
					"metadata %s: the value %q has bytes that are not printable ASCII: a key that ends in -bin may have them", key, v)
			}
			out = append(out, stream.Field{Key: key, Value: wire})
		}
	}
	return out, nil
}

// isReserved reports whether a key is the protocol's: gRPC's, HTTP/2's (RFC 9113
// section 8.2.2) or the proxy's. The traces that gRPC defines metadata for are not.
func isReserved(key string) bool {
	switch key {
	case "grpc-trace-bin", "grpc-tags-bin":
		return false
	case "content-type", "content-length", "te", "host", userAgentKey,
		"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", stream.ReasonKey:
		return true
	}
	return strings.HasPrefix(key, ":") || strings.HasPrefix(key, "grpc-")
}

// isKey reports whether a lower-case key may be one of metadata.
func isKey(key string) bool {
	for i := range len(key) {
		c := key[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return key != ""
}

// toWire returns a value as it crosses the wire, and false if it cannot. Spaces
// around it may be left out, says gRPC; with them it would be malformed (RFC 9113
// section 8.2.1).
func toWire(key, value string) (string, bool) {
	if strings.HasSuffix(key, binarySuffix) {
		return base64.RawStdEncoding.EncodeToString([]byte(value)), true
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return "", false
		}
	}
	return strings.Trim(value, " "), true
}

// incoming returns metadata as clients see it.
func incoming(m stream.Metadata) metadata.MD {
	md := make(metadata.MD, len(m))
	for _, f := range m {
		md[f.Key] = append(md[f.Key], fromWire(f.Key, f.Value))
	}
	return md
}

// fromWire leaves a value that is not base64 as it is.
func fromWire(key, value string) string {
	if !strings.HasSuffix(key, binarySuffix) {
		return value
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return value
	}
	return string(b)
}
