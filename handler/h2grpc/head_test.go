package h2grpc

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestFormatTimeout(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:               "1n",
		0:                          "1n",
		1:                          "1n",
		99_999_999:                 "99999999n",
		100_000_000:                "100000u",
		100_000_001:                "100001u", // never too early
		time.Hour:                  "3600000m",
		99_999_999 * time.Second:   "99999999S",
		99_999_999*time.Second + 1: "1666667M",
		math.MaxInt64:              "2562048H",
	} {
		require.Equal(t, want, FormatTimeout(d), "%d", d)
	}
}

func TestParseTimeout(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"1n": 1, "0S": 0, "15u": 15 * time.Microsecond, "7m": 7 * time.Millisecond, "3S": 3 * time.Second,
		"2M": 2 * time.Minute, "1H": time.Hour, "00000001H": time.Hour, "99999999H": math.MaxInt64,
	} {
		d, ok := ParseTimeout(v)
		require.True(t, ok, v)
		require.Equal(t, want, d, v)
	}
	for _, v := range []string{"", "1", "S", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "1 S", "123456789S", "1SS", "0x1S", "1_0S"} {
		_, ok := ParseTimeout(v)
		require.False(t, ok, v)
	}
}

// What is written is read as no less than it was, and as hardly more.
func FuzzTimeout(f *testing.F) {
	f.Add(int64(1))
	f.Add(int64(123_456_789_012))
	f.Add(int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, n int64) {
		d := max(time.Duration(n), 1)
		got, ok := ParseTimeout(FormatTimeout(d))
		require.True(t, ok)
		require.GreaterOrEqual(t, got, d)
		require.LessOrEqual(t, float64(got-d), float64(d)/1e4)
	})
}

func fields(pairs ...string) (list []hpack.HeaderField) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

// Metadata keeps its order, and -bin values are what crossed the wire.
func TestRequestHeadCrosses(t *testing.T) {
	h := parseRequest(fields(":method", "POST", ":scheme", "http", ":path", method, "host", "not this", ":authority", "test",
		"content-type", "application/grpc+x", "te", "trailers", "b", "1", "x-bin", "AAE=", "a", "", "b", "0", "x-bin", "AA,AB",
		"grpc-timeout", "1S", "grpc-encoding", "gzip", "grpc-accept-encoding", "gzip,br", "content-length", "5"))
	require.Equal(t, "POST", h.method)
	require.Equal(t, "1S", h.timeout)
	require.Equal(t, stream.Request{
		Method: method, Authority: "test", ContentType: "application/grpc+x", Encoding: "gzip", AcceptEncoding: "gzip,br",
		Metadata: stream.Metadata{{Key: "b", Value: "1"}, {Key: "x-bin", Value: "AAE="}, {Key: "a"}, {Key: "b", Value: "0"}, {Key: "x-bin", Value: "AA,AB"}},
	}, h.req)
	require.Equal(t, fields(":method", "POST", ":scheme", "http", ":path", method, ":authority", "test",
		"content-type", "application/grpc+x", "te", "trailers", "grpc-encoding", "gzip", "grpc-accept-encoding", "gzip,br",
		"b", "1", "x-bin", "AAE=", "a", "", "b", "0", "x-bin", "AA,AB"), requestFields(t.Context(), &h.req))
	require.Equal(t, "old", parseRequest(fields("host", "old")).req.Authority)
}

func TestResponseHeadCrosses(t *testing.T) {
	head := fields(":status", "200", "content-type", "application/grpc+x", "grpc-encoding", "br", "grpc-accept-encoding", "br", "z", "1", "a-bin", "AA==", "z", "")
	require.Equal(t, head, headerFields(ParseHeader(head), "asked"))
	require.Equal(t, "asked", headerFields(&stream.Header{}, "asked")[1].Value)
}

func TestTrailersCross(t *testing.T) {
	for name, trailers := range map[string][]hpack.HeaderField{
		"all of it":          fields("grpc-status", "13", "grpc-message", "100%25 %E2%82%AC%0A", "grpc-status-details-bin", "CA0", "b", "1", "x-bin", "AA==", "b", "0"),
		"code out of range":  fields("grpc-status", "4294967295"),
		"details not base64": fields("grpc-status", "1", "grpc-status-details-bin", "?", "a", "1"),
		"empty details":      fields("grpc-status", "0", "grpc-status-details-bin", ""),
		"details twice":      fields("grpc-status", "1", "grpc-status-details-bin", "CA0", "grpc-status-details-bin", "CA1"),
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, trailers, TrailerFields(ParseTrailer(trailers))) })
	}
	padded := ParseTrailer(fields("grpc-status", "3", "grpc-status-details-bin", "CAM="))
	require.Equal(t, []byte{8, 3}, padded.Status.Details)
	only := fields(":status", "200", "content-type", "application/grpc+y", "grpc-status", "5")
	require.Equal(t, only, TrailersOnlyFields(ParseTrailer(only), "asked"))
}

func TestIsGRPC(t *testing.T) {
	for kind, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;charset=x": true,
		"application/grpc-web": false, "application/grpcx": false, "": false, "text/html": false,
	} {
		require.Equal(t, want, isGRPC(kind), kind)
	}
}
