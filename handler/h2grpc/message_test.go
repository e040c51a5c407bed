package h2grpc

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessages(t *testing.T) {
	for plain, encoded := range map[string]string{
		"": "", "plain ~": "plain ~", "100%": "100%25", "a\nb": "a%0Ab", "€": "%E2%82%AC", "\x00\xff": "%00%FF", "%41": "%2541",
	} {
		require.Equal(t, encoded, encodeMessage(plain))
		require.Equal(t, plain, decodeMessage(encoded))
	}
	for v, want := range map[string]string{"%": "%", "%4": "%4", "%zz": "%zz", "%e2%82%ac": "€", "%%41": "%A", "a%4": "a%4"} {
		require.Equal(t, want, decodeMessage(v), v)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("50% of\r\n€")
	f.Add("%41%")
	f.Fuzz(func(t *testing.T, m string) {
		v := encodeMessage(m)
		require.Equal(t, m, decodeMessage(v))
		for i := range len(v) {
			require.True(t, v[i] >= ' ' && v[i] <= '~')
		}
		_ = decodeMessage(m) // which may be nothing that is encoded
	})
}
