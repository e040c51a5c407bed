package handlertest

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// authority is what raw clients ask for.
const authority = "conformance.example:8443"

// rawBackend starts a raw HTTP/2 server that does what does says with each
// stream, and returns its address.
func rawBackend(t *testing.T, does func(*rawh2.Stream)) string {
	server, err := rawh2.Listen("", rawh2.Options{}, does)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return server.Addr()
}

// rawDial connects a raw HTTP/2 client.
func rawDial(ctx context.Context, t *testing.T, addr string) *rawh2.Conn {
	t.Helper()
	conn, err := rawh2.Dial(ctx, addr, rawh2.Options{})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// rawOpen begins a call.
func rawOpen(t *testing.T, conn *rawh2.Conn, fields rawh2.Fields, endStream bool) *rawh2.Stream {
	t.Helper()
	stream, err := conn.NewStream(fields, endStream)
	require.NoError(t, err)
	return stream
}

// requestFields is an ordinary request's header block with further fields.
func requestFields(extra ...rawh2.Field) rawh2.Fields {
	return rawh2.RequestFields(method, authority, extra...)
}

// replace returns fields with name's value changed where it stands.
func replace(fields rawh2.Fields, name, value string) rawh2.Fields {
	fields = slices.Clone(fields)
	for i := range fields {
		if fields[i].Name == name {
			fields[i].Value = value
		}
	}
	return fields
}

// exchange is one raw call, seen from both ends.
type exchange struct {
	Request     rawh2.Fields // as the backend saw it
	RequestBody []byte
	Reply       rawh2.Reply // as the client saw it
}

// rawExchange makes a call through the target with raw parties at both ends.
// The backend reads the whole request before it answers.
func (s *suite) rawExchange(t *testing.T, fields rawh2.Fields, body []byte, answer func(*rawh2.Stream)) exchange {
	t.Helper()
	ctx := s.context(t)
	seen := make(chan exchange, 1)
	addr := s.through(t, rawBackend(t, func(stream *rawh2.Stream) {
		body, err := stream.AwaitEndStream(stream.Context())
		if err != nil {
			return
		}
		select {
		case seen <- exchange{Request: stream.Request(), RequestBody: body}:
		default: // the target has sent the call again; the first is what counts
		}
		answer(stream)
	}))
	stream := rawOpen(t, rawDial(ctx, t, addr), fields, false)
	require.NoError(t, stream.Data(body, true))
	reply, err := stream.AwaitReply(ctx)
	require.NoError(t, err)
	require.Nil(t, reply.Reset, "the client's stream was reset instead of answered")
	got := await(ctx, t, seen, "the request at the backend")
	got.Reply = reply
	return got
}

// answerOK answers with an empty message.
func answerOK(stream *rawh2.Stream) { _ = stream.OK(nil) }

// emptyMessage is a request's body with one message of no bytes.
var emptyMessage = rawh2.Frame(0, nil)

// names lists the names of a block's fields in alphabetical order; a field
// that comes twice is listed twice. An empty grpc-message is left out: it says
// the same as none.
func names(fields rawh2.Fields) []string {
	var list []string
	for _, f := range fields {
		if f.Name == "grpc-message" && f.Value == "" {
			continue
		}
		list = append(list, f.Name)
	}
	slices.Sort(list)
	return list
}

// sameFields checks that got holds the very fields of want: none more, none
// less, and each name's values in order. Those of the names in anyValue may
// have another value. The order of different names says nothing in HTTP.
func sameFields(t *testing.T, want, got rawh2.Fields, what string, anyValue ...string) {
	t.Helper()
	assert.Equal(t, names(want), names(got), "%s: names", what)
	for _, f := range want {
		if slices.Contains(anyValue, f.Name) || (f.Name == "grpc-message" && f.Value == "") {
			continue
		}
		assert.Equal(t, values(t, want, f.Name), values(t, got, f.Name), "%s: values of %s", what, f.Name)
	}
}

// values returns a name's values, those of -bin names decoded: base64 has two
// spellings, with and without padding, and a proxy may choose.
func values(t *testing.T, fields rawh2.Fields, name string) []string {
	t.Helper()
	list := fields.Values(name)
	if !strings.HasSuffix(name, "-bin") {
		return list
	}
	decoded := make([]string, len(list))
	for i, v := range list {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
		assert.NoError(t, err, "base64 of %s: %q", name, v)
		decoded[i] = string(b)
	}
	return decoded
}

// bin encodes the value of a -bin field.
func bin(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }
