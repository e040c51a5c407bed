package kitexgrpc

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Kitex delivers these among the metadata although they belong to the
// protocol; stream.Metadata never holds them.
const (
	authorityKey   = ":authority"
	contentTypeKey = "content-type"
	userAgentKey   = "user-agent"
)

// fromMD turns Kitex's metadata into ours. The order of values under one key
// is kept; Kitex does not keep the order of different keys.
func fromMD(md metadata.MD) stream.Metadata {
	n := 0
	for k, values := range md {
		if !isProtocolKey(k) {
			n += len(values)
		}
	}
	if n == 0 {
		return nil
	}
	out := make(stream.Metadata, 0, n)
	for k, values := range md {
		if isProtocolKey(k) {
			continue
		}
		for _, v := range values {
			out = append(out, stream.Field{Key: k, Value: toWire(k, v)})
		}
	}
	return out
}

func isProtocolKey(k string) bool {
	return k == contentTypeKey || k == userAgentKey || k == authorityKey
}

// contentTypeOf returns the content type that Kitex delivers as metadata.
func contentTypeOf(md metadata.MD) string {
	if v := md[contentTypeKey]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// toMD turns our metadata into Kitex's.
func toMD(m stream.Metadata) metadata.MD {
	if len(m) == 0 {
		return nil
	}
	md := make(metadata.MD, len(m))
	for _, f := range m {
		md[f.Key] = append(md[f.Key], fromWire(f.Key, f.Value))
	}
	return md
}

// Kitex decodes and encodes the values of "-bin" keys, stream.Metadata has them
// as they cross the wire.
const binSuffix = "-bin"

func toWire(key, value string) string {
	if !strings.HasSuffix(key, binSuffix) {
		return value
	}
	return base64.RawStdEncoding.EncodeToString([]byte(value))
}

// fromWire leaves a value that is not base64 as it is: Kitex encodes it.
func fromWire(key, value string) string {
	if !strings.HasSuffix(key, binSuffix) {
		return value
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return value
	}
	return string(b)
}

// outgoing puts what a request says beyond grpc.CallHdr into the context that
// Kitex's client transport reads it from.
//
// Kitex drops reserved keys, but looks for them before it lower-cases a key,
// so "Grpc-Encoding" gets through and reaches the wire as grpc-encoding. The
// proper way, CallHdr.SendCompress, would add a grpc-accept-encoding that the
// client never sent.
func outgoing(ctx context.Context, req *stream.Request) context.Context {
	kv := make([]string, 0, 2*(len(req.Metadata)+2))
	if req.Encoding != "" {
		kv = append(kv, "Grpc-Encoding", req.Encoding)
	}
	if req.AcceptEncoding != "" {
		kv = append(kv, "grpc-accept-encoding", req.AcceptEncoding)
	}
	for _, f := range req.Metadata {
		kv = append(kv, f.Key, fromWire(f.Key, f.Value))
	}
	if len(kv) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, kv...)
}

// bizStatus are the trailers in which a Kitex server sends its business
// status: Kitex's client transport takes them out of the metadata.
const (
	bizStatusKey = "biz-status"
	bizExtraKey  = "biz-extra"
)

func appendBizStatus(m stream.Metadata, code int32, extraJSON string) stream.Metadata {
	m = append(m, stream.Field{Key: bizStatusKey, Value: strconv.Itoa(int(code))})
	if extraJSON != "" {
		m = append(m, stream.Field{Key: bizExtraKey, Value: extraJSON})
	}
	return m
}
