package auth

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func requestID(t testing.TB, o RequestID) intercept.Guard {
	t.Helper()
	guard, err := NewRequestID(o)
	require.NoError(t, err)
	return guard
}

func TestRequestIDs(t *testing.T) {
	guard, seen := requestID(t, RequestID{Response: true}), map[string]bool{}
	for range 100 {
		c := call("a", "1", "x-request-id", "the client's", "x-request-id", "another")
		require.NoError(t, guard(c))
		id := c.RequestID()
		require.Regexp(t, "^[0-9a-f]{32}$", id)
		require.False(t, seen[id])
		seen[id] = true
		require.Equal(t, stream.Metadata{{Key: "a", Value: "1"}, {Key: "x-request-id", Value: id}}, forBackend(c))
		require.Equal(t, stream.Metadata{{Key: "x-request-id", Value: id}}, c.ResponseHeader())
	}
}

func TestTrustedRequestIDs(t *testing.T) {
	guard := requestID(t, RequestID{Header: "X-Correlation-ID", Trust: true})
	for id, trusted := range map[string]bool{
		"4bf92f35-77b3_4da6.a3ce:929d/0e+0e=47@36": true,
		"1":                      true,
		strings.Repeat("a", 128): true,
		strings.Repeat("a", 129): false,
		"":                       false,
		"a b":                    false,
		`a" level=ERROR`:         false,
		"a\nb":                   false,
		"<script>":               false,
		"ä":                      false,
	} {
		c := call("x-correlation-id", id)
		require.NoError(t, guard(c))
		require.Equal(t, trusted, c.RequestID() == id, id)
		_, changed := c.ChangedHeader()
		require.Equal(t, !trusted, changed)
		require.Equal(t, c.RequestID(), forBackend(c).Get("x-correlation-id"))
		require.Empty(t, c.ResponseHeader())
	}
	c := call("x-correlation-id", "a", "x-correlation-id", "b")
	require.NoError(t, guard(c))
	require.Equal(t, stream.Metadata{{Key: "x-correlation-id", Value: c.RequestID()}}, forBackend(c))
	require.Len(t, c.RequestID(), 32)
}

func TestRequestIDThatCannotBe(t *testing.T) {
	_, err := NewRequestID(RequestID{Header: "grpc-id"})
	require.ErrorContains(t, err, `header: metadata "grpc-id"`)
}

func BenchmarkRequestID(b *testing.B) {
	guard := requestID(b, RequestID{})
	benchmarkGuard(b, guard, func() *intercept.Call { return call("user-agent", "grpc-go/1", "x-tenant", "a", "b", "c") })
}
