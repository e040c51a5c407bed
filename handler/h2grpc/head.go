package h2grpc

import (
	"context"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// The fields that the protocol itself uses.
const (
	contentType    = "content-type"
	grpcTimeout    = "grpc-timeout"
	grpcEncoding   = "grpc-encoding"
	acceptEncoding = "grpc-accept-encoding"
	grpcStatus     = "grpc-status"
	grpcMessage    = "grpc-message"
	grpcDetails    = "grpc-status-details-bin"
)

const grpcContentType = "application/grpc"

// isGRPC reports whether a content type is gRPC's, alone or with a subtype.
func isGRPC(t string) bool {
	rest, ok := strings.CutPrefix(t, grpcContentType)
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// head is the head of a request.
type head struct {
	req     stream.Request
	method  string // of HTTP
	timeout string // grpc-timeout, "" for none
}

// ParseRequest reads the head of a request for a gRPC call, but for its timeout.
func ParseRequest(fields []hpack.HeaderField) *stream.Request {
	h := parseRequest(fields)
	return &h.req
}

func parseRequest(fields []hpack.HeaderField) (h head) {
	for i := range fields {
		f := &fields[i]
		switch f.Name {
		case ":method":
			h.method = f.Value
		case ":path":
			h.req.Method = f.Value
		case ":authority":
			h.req.Authority = f.Value
		case contentType:
			h.req.ContentType = f.Value
		case grpcTimeout:
			h.timeout = f.Value
		case grpcEncoding:
			h.req.Encoding = f.Value
		case acceptEncoding:
			h.req.AcceptEncoding = f.Value
		case "host":
			if h.req.Authority == "" {
				h.req.Authority = f.Value // RFC 9113 section 8.3.1
			}
		case ":scheme", "te", "content-length":
		default:
			h.req.Metadata = withField(h.req.Metadata, f, len(fields)-i)
		}
	}
	return h
}

// withField adds a field to metadata of which left may come at most: many calls have none.
func withField(md stream.Metadata, f *hpack.HeaderField, left int) stream.Metadata {
	if md == nil {
		md = make(stream.Metadata, 0, left)
	}
	return append(md, stream.Field{Key: f.Name, Value: f.Value})
}

// requestFields is the head of a request to a backend.
func requestFields(ctx context.Context, req *stream.Request) []hpack.HeaderField {
	fields := make([]hpack.HeaderField, 0, 9+len(req.Metadata))
	fields = append(fields,
		hpack.HeaderField{Name: ":method", Value: "POST"},
		hpack.HeaderField{Name: ":scheme", Value: "http"},
		hpack.HeaderField{Name: ":path", Value: req.Method},
		hpack.HeaderField{Name: ":authority", Value: req.Authority},
		hpack.HeaderField{Name: contentType, Value: req.ContentType},
		hpack.HeaderField{Name: "te", Value: "trailers"})
	if deadline, ok := ctx.Deadline(); ok {
		fields = append(fields, hpack.HeaderField{Name: grpcTimeout, Value: FormatTimeout(time.Until(deadline))})
	}
	fields = appendUnlessEmpty(fields, grpcEncoding, req.Encoding)
	fields = appendUnlessEmpty(fields, acceptEncoding, req.AcceptEncoding)
	return appendMetadata(fields, req.Metadata)
}

func appendUnlessEmpty(fields []hpack.HeaderField, name, value string) []hpack.HeaderField {
	if value == "" {
		return fields
	}
	return append(fields, hpack.HeaderField{Name: name, Value: value})
}

func appendMetadata(fields []hpack.HeaderField, m stream.Metadata) []hpack.HeaderField {
	for i := range m {
		fields = append(fields, hpack.HeaderField{Name: m[i].Key, Value: m[i].Value})
	}
	return fields
}

// WithMetadata returns the head of a request with md as its metadata: what the
// protocol itself uses stays as it is. It may change and return head.
func WithMetadata(head []hpack.HeaderField, md stream.Metadata) []hpack.HeaderField {
	kept := slices.DeleteFunc(head, func(f hpack.HeaderField) bool { return !isProtocol(f.Name) })
	return appendMetadata(kept, md)
}

// isProtocol reports whether a field of a request's head is no metadata; see
// parseRequest.
func isProtocol(name string) bool {
	switch name {
	case contentType, grpcTimeout, grpcEncoding, acceptEncoding, "host", "te", "content-length":
		return true
	}
	return strings.HasPrefix(name, ":")
}

// AppendHead appends a head that has the fields of md in place of those of the same keys.
func AppendHead(all, head []hpack.HeaderField, md stream.Metadata) []hpack.HeaderField {
	for i := range head {
		if !has(md, head[i].Name) {
			all = append(all, head[i])
		}
	}
	return appendMetadata(all, md)
}

func has(md stream.Metadata, key string) bool {
	for i := range md {
		if md[i].Key == key {
			return true
		}
	}
	return false
}

// ParseHeader reads the head of a response, but for ":status".
func ParseHeader(fields []hpack.HeaderField) *stream.Header {
	h := &stream.Header{}
	for i := range fields {
		f := &fields[i]
		switch f.Name {
		case contentType:
			h.ContentType = f.Value
		case grpcEncoding:
			h.Encoding = f.Value
		case acceptEncoding:
			h.AcceptEncoding = f.Value
		case ":status", "content-length":
		default:
			h.Metadata = withField(h.Metadata, f, len(fields)-i)
		}
	}
	return h
}

// headerFields is the head of a response to a client that asked in the content
// type given.
func headerFields(h *stream.Header, asked string) []hpack.HeaderField {
	fields := make([]hpack.HeaderField, 0, 4+len(h.Metadata))
	fields = append(fields, hpack.HeaderField{Name: ":status", Value: "200"},
		hpack.HeaderField{Name: contentType, Value: orElse(h.ContentType, asked)})
	fields = appendUnlessEmpty(fields, grpcEncoding, h.Encoding)
	fields = appendUnlessEmpty(fields, acceptEncoding, h.AcceptEncoding)
	return appendMetadata(fields, h.Metadata)
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// ParseTrailer reads trailers, or a response that is nothing else, that have
// been checked.
func ParseTrailer(fields []hpack.HeaderField) *stream.Trailer {
	t := &stream.Trailer{}
	for i := range fields {
		f := &fields[i]
		switch f.Name {
		case contentType:
			t.ContentType = f.Value
		case grpcStatus:
			code, _ := strconv.ParseUint(f.Value, 10, 32) // CheckTrailers has looked at it
			t.Status.Code = stream.Code(code)
		case grpcMessage:
			t.Status.Message = decodeMessage(f.Value)
		case grpcDetails:
			details, err := decodeBinary(f.Value)
			if err != nil || t.Status.Details != nil {
				t.Metadata = withField(t.Metadata, f, len(fields)-i)
				continue
			}
			t.Status.Details = details
		case ":status", "content-length":
		default:
			t.Metadata = withField(t.Metadata, f, len(fields)-i)
		}
	}
	return t
}

// TrailerFields returns the fields that end a call with t.
func TrailerFields(t *stream.Trailer) []hpack.HeaderField {
	return appendTrailer(make([]hpack.HeaderField, 0, 3+len(t.Metadata)), t)
}

// TrailersOnlyFields returns the fields of a response that is nothing but t, to
// a client that asked in the content type given.
func TrailersOnlyFields(t *stream.Trailer, asked string) []hpack.HeaderField {
	return appendTrailer(headerFields(&stream.Header{ContentType: t.ContentType}, asked), t)
}

// appendTrailer appends the fields that end a call.
func appendTrailer(fields []hpack.HeaderField, t *stream.Trailer) []hpack.HeaderField {
	fields = append(fields, hpack.HeaderField{Name: grpcStatus, Value: strconv.FormatUint(uint64(t.Status.Code), 10)})
	fields = appendUnlessEmpty(fields, grpcMessage, encodeMessage(t.Status.Message))
	if t.Status.Details != nil {
		fields = append(fields, hpack.HeaderField{Name: grpcDetails, Value: base64.RawStdEncoding.EncodeToString(t.Status.Details)})
	}
	return appendMetadata(fields, t.Metadata)
}

// decodeBinary accepts base64 with and without padding, as the gRPC
// specification asks for.
func decodeBinary(v string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
}

// timeoutUnits are the units of grpc-timeout, finest first.
var timeoutUnits = []struct {
	unit byte
	d    time.Duration
}{
	{'n', time.Nanosecond},
	{'u', time.Microsecond},
	{'m', time.Millisecond},
	{'S', time.Second},
	{'M', time.Minute},
	{'H', time.Hour},
}

// maxTimeoutValue is the largest number that grpc-timeout may have: 8 digits.
const maxTimeoutValue = 99_999_999

// FormatTimeout returns the value of grpc-timeout for d, in the finest unit that
// holds it. For a deadline that has passed that is one nanosecond: 0 is not
// allowed.
func FormatTimeout(d time.Duration) string {
	d = max(d, 1)
	for _, u := range timeoutUnits {
		n := d / u.d
		if d%u.d > 0 {
			n++ // never too early
		}
		if n <= maxTimeoutValue {
			return strconv.FormatInt(int64(n), 10) + string(u.unit)
		}
	}
	return strconv.Itoa(maxTimeoutValue) + "H"
}

// ParseTimeout reads the value of grpc-timeout. It reports false for what is none.
func ParseTimeout(v string) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 64)
	if err != nil {
		return 0, false
	}
	for _, u := range timeoutUnits {
		if u.unit == v[len(v)-1] {
			if n > math.MaxInt64/uint64(u.d) {
				return math.MaxInt64, true
			}
			return time.Duration(n) * u.d, true
		}
	}
	return 0, false
}
