package metadata

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestMetadataOfAnyCase(t *testing.T) {
	var m Metadata
	require.NoError(t, m.Add("Some-Key", "1"))
	require.NoError(t, m.Add("some-KEY", "2", "3"))
	require.Equal(t, "1", m.Get("SOME-key"))
	require.Equal(t, []string{"1", "2", "3"}, m.Values("some-key"))
	require.Equal(t, stream.Metadata{{Key: "some-key", Value: "1"}, {Key: "some-key", Value: "2"}, {Key: "some-key", Value: "3"}}, m.fields)

	require.NoError(t, m.Set("SOME-key", "4"))
	require.Equal(t, []string{"4"}, m.Values("some-key"))
	require.NoError(t, m.Set("other"))
	require.NoError(t, m.Remove("Some-Key"))
	require.Empty(t, m.fields)
	require.Nil(t, m.Values("some-key"))
	require.Empty(t, m.Get("some-key"))
}

func TestMetadataKeepsItsOrder(t *testing.T) {
	m := Metadata{fields: stream.Metadata{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}}}
	require.NoError(t, m.Set("a", "4", "5"))
	require.NoError(t, m.Add("b", "6"))
	var all []string
	for k, v := range m.All() {
		all = append(all, k+v)
	}
	require.Equal(t, []string{"b1", "b3", "a4", "a5", "b6"}, all)
	for range m.All() {
		break // ranging may end early
	}
}

// What filters see are bytes; what crosses, and is not touched, stays as it came.
func TestBinaryMetadata(t *testing.T) {
	m := Metadata{fields: stream.Metadata{
		{Key: "padded-bin", Value: "AAECAw=="},
		{Key: "bare-bin", Value: "AAECAw"},
		{Key: "list-bin", Value: "AA,AB"},
		{Key: "text", Value: "AAECAw=="},
	}}
	came := slices.Clone(m.fields)
	require.Equal(t, "\x00\x01\x02\x03", m.Get("padded-bin"))
	require.Equal(t, "\x00\x01\x02\x03", m.Get("bare-bin"))
	require.Equal(t, "AA,AB", m.Get("list-bin"), "this is no base64")
	require.Equal(t, "AAECAw==", m.Get("text"))
	require.Equal(t, map[string]string{"padded-bin": "\x00\x01\x02\x03", "bare-bin": "\x00\x01\x02\x03", "list-bin": "AA,AB", "text": "AAECAw=="}, maps.Collect(m.All()))
	require.Equal(t, came, m.fields, "reading is no change")

	require.NoError(t, m.Set("bare-bin", "\xff\x00", ""))
	require.Equal(t, stream.Metadata{{Key: "bare-bin", Value: "/wA"}, {Key: "bare-bin", Value: ""}}, m.fields[3:])
	require.Equal(t, []string{"\xff\x00", ""}, m.Values("bare-bin"))
}

func TestMetadataThatCannotBe(t *testing.T) {
	const protocol, key, value = "is the protocol's", "is no key for metadata", "not printable ASCII"
	for _, test := range []struct{ key, value, says string }{
		{"content-type", "x", protocol},
		{"Content-Type", "x", protocol},
		{"content-length", "x", protocol},
		{"te", "x", protocol},
		{"host", "x", protocol},
		{"connection", "x", protocol},
		{"keep-alive", "x", protocol},
		{"proxy-connection", "x", protocol},
		{"transfer-encoding", "x", protocol},
		{"upgrade", "x", protocol},
		{"grpc-status", "0", protocol},
		{"GRPC-Timeout", "1S", protocol},
		{"grpc-encoding", "gzip", protocol},
		{"grpc-status-details-bin", "x", protocol},
		{"grpc-anything-else", "x", protocol},
		{stream.ReasonKey, "rejected", protocol},
		{":path", "x", key},
		{"", "x", key},
		{"with space", "x", key},
		{"with\nnewline", "x", key},
		{"ümlaut", "x", key},
		{"a*b", "x", key},
		{"k", "a\nb", value},
		{"k", "a\x00", value},
		{"k", "ä", value},
		{"k", "\xff", value},
		{"k", "\x7f", value},
	} {
		t.Run(test.key+"="+test.value, func(t *testing.T) {
			m := Metadata{fields: stream.Metadata{{Key: "k", Value: "old"}}}
			require.ErrorContains(t, m.Set(test.key, "fine", test.value), test.says)
			require.ErrorContains(t, m.Add(test.key, "fine", test.value), test.says)
			require.Equal(t, stream.Metadata{{Key: "k", Value: "old"}}, m.fields, "nothing is changed by what fails")
		})
	}
	var m Metadata
	for _, key := range []string{"k", "a-b_c.d", "0", "grpc-trace-bin", "grpc-tags-bin", "grpc-previous-rpc-attempts", "user-agent", "authorization"} {
		require.NoError(t, m.Add(key, "", " ", "~"), key)
	}
	require.NoError(t, m.Add("raw-bin", "\x00\xff\n"))
}

func TestMetadataThatHasBeenSent(t *testing.T) {
	m := Metadata{fields: stream.Metadata{{Key: "k", Value: "v"}}}
	m.sent.Store(true)
	require.ErrorIs(t, m.Set("k", "w"), ErrSent)
	require.ErrorIs(t, m.Add("k", "w"), ErrSent)
	require.ErrorIs(t, m.Remove("k"), ErrSent)
	require.Equal(t, stream.Metadata{{Key: "k", Value: "v"}}, m.fields)
	require.Equal(t, "v", m.Get("k"))
}
