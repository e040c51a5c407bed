package h2grpc

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestRequestsThatAreNotGRPC(t *testing.T) {
	c := serve(t, new(Server), rawh2.Options{}, never(t))
	for name, test := range map[string]struct {
		field, value string
		status       string
		allow        string
	}{
		"content type": {"content-type", "application/json", "415", ""},
		"method":       {":method", "GET", "405", "POST"},
		"path":         {":path", "*", "400", ""},
	} {
		t.Run(name, func(t *testing.T) {
			fields := rawh2.RequestFields(method, "test")
			for i := range fields {
				if fields[i].Name == test.field {
					fields[i].Value = test.value
				}
			}
			st, err := c.NewStream(fields, true)
			require.NoError(t, err)
			r := reply(t, st)
			require.Equal(t, test.status, r.Header.Get(":status"))
			require.Equal(t, test.allow, r.Header.Get("allow"))
			require.Equal(t, strconv.Itoa(len(r.Body)), r.Header.Get("content-length"))
			require.Contains(t, string(r.Body), "this is a gRPC server")
		})
	}
}

// never carries calls that are not to get that far.
func never(t *testing.T) func(stream.Inbound) {
	return func(stream.Inbound) { assert.Fail(t, "it is for Begin to answer") }
}

func TestMalformedTimeoutIsAnswered(t *testing.T) {
	r := reply(t, open(t, serve(t, new(Server), rawh2.Options{}, never(t)), true, rawh2.F("grpc-timeout", "soon")))
	require.Equal(t, "13", r.Trailer.Get("grpc-status"))
	require.Equal(t, string(stream.RequestMalformed), r.Trailer.Get(stream.ReasonKey))
}

func TestProbeIsAnsweredOnTheSpot(t *testing.T) {
	s := &Server{ProbeMethod: method, ProbeAnswer: &stream.Trailer{Status: stream.Status{Code: 12}}}
	r := reply(t, open(t, serve(t, s, rawh2.Options{}, never(t)), false))
	require.Equal(t, "12", r.Trailer.Get("grpc-status"))
}

// relayed serves one call with relay, whose end the channel tells.
func relayed(t *testing.T, o rawh2.Options, relay func(in stream.Inbound) error) (*rawh2.Conn, <-chan error) {
	ended := make(chan error, 1)
	return serve(t, new(Server), o, func(in stream.Inbound) {
		err := relay(in)
		in.Finish(&stream.Trailer{})
		ended <- err
	}), ended
}

func TestReadWaitsForTheClient(t *testing.T) {
	body := strings.Repeat("0123456789", window/5) // twice the window
	got := make([]byte, len(body))
	c, ended := relayed(t, rawh2.Options{}, func(in stream.Inbound) error {
		if err := in.Read(got); err != nil {
			return err
		}
		return in.Read(make([]byte, 1))
	})
	s := open(t, c, false)
	require.NoError(t, s.Data([]byte(body), true))
	require.Equal(t, io.EOF, <-ended)
	require.Equal(t, body, string(got))
}

func TestReadOfARequestThatBreaksOff(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*rawh2.Stream) error
		want error
	}{
		"END_STREAM": {func(s *rawh2.Stream) error { return s.Data(nil, true) }, io.ErrUnexpectedEOF},
		"trailers":   {func(s *rawh2.Stream) error { return s.Trailers(rawh2.F("x", "1")) }, io.ErrUnexpectedEOF},
		"reset":      {func(s *rawh2.Stream) error { return s.Reset(http2.ErrCodeCancel) }, stream.CanceledByClient},
	} {
		t.Run(name, func(t *testing.T) {
			c, ended := relayed(t, rawh2.Options{}, func(in stream.Inbound) error { return in.Read(make([]byte, 10)) })
			s := open(t, c, false)
			require.NoError(t, s.Data([]byte("12345"), false))
			require.NoError(t, test.end(s))
			require.Equal(t, test.want, <-ended)
		})
	}
}

// A write that waits for a client that does not read ends with the call's
// deadline, not with the client.
func TestWriteEndsWithTheDeadline(t *testing.T) {
	c, ended := relayed(t, rawh2.Options{ManualWindow: true}, func(in stream.Inbound) error {
		if err := in.WriteHeader(&stream.Header{}); err != nil {
			return err
		}
		for {
			if err := in.Write(make([]byte, 16<<10)); err != nil {
				return err
			}
		}
	})
	open(t, c, true, rawh2.F("grpc-timeout", "50m"))
	require.ErrorIs(t, <-ended, errDeadline)
}

func TestWriteEndsWithFinishAndReset(t *testing.T) {
	for name, end := range map[string]func(in stream.Inbound, s *rawh2.Stream){
		"Finish": func(in stream.Inbound, _ *rawh2.Stream) { in.Finish(&stream.Trailer{}) },
		"reset":  func(_ stream.Inbound, s *rawh2.Stream) { _ = s.Reset(http2.ErrCodeCancel) },
	} {
		t.Run(name, func(t *testing.T) {
			begun := make(chan stream.Inbound, 1)
			c, ended := relayed(t, rawh2.Options{ManualWindow: true}, func(in stream.Inbound) error {
				_ = in.WriteHeader(&stream.Header{})
				for i := 0; ; i++ {
					if i == 5 {
						begun <- in
					}
					if err := in.Write(make([]byte, 16<<10)); err != nil {
						return err
					}
				}
			})
			s := open(t, c, true)
			end(<-begun, s)
			require.Error(t, <-ended)
		})
	}
}

// A head that the client does not accept leaves room for a status that does.
func TestHeadThatTheClientDoesNotAccept(t *testing.T) {
	c, ended := relayed(t, rawh2.Options{Settings: []http2.Setting{rawh2.Setting(http2.SettingMaxHeaderListSize, 300)}}, func(in stream.Inbound) error {
		return in.WriteHeader(&stream.Header{Metadata: stream.Metadata{{Key: "long", Value: strings.Repeat("x", 300)}}})
	})
	r := reply(t, open(t, c, true))
	require.Error(t, <-ended)
	require.True(t, r.TrailersOnly)
	require.Equal(t, "200", r.Trailer.Get(":status"), "it is a whole response")
}

// A client gets rid of what nobody will read.
func TestRequestIsCreditedOnceTheCallIsOver(t *testing.T) {
	c, ended := relayed(t, rawh2.Options{ManualWindow: true, Settings: []http2.Setting{rawh2.Setting(http2.SettingInitialWindowSize, 0)}},
		func(in stream.Inbound) error {
			_ = in.Read(make([]byte, 1))
			_ = in.WriteHeader(&stream.Header{})
			return in.Write(make([]byte, 10))
		})
	s := open(t, c, false)
	require.NoError(t, s.Data(make([]byte, 4*window), true), "all of it can be written")
	require.NoError(t, <-ended)
	require.NoError(t, c.WindowUpdate(s.ID(), window))
	require.Equal(t, "0", reply(t, s).Trailer.Get("grpc-status"))
}

// An inbox whose reader is always a little behind does not grow.
func TestInboxDoesNotGrow(t *testing.T) {
	var b inbox
	b.init(nil)
	require.True(t, b.put(make([]byte, 20<<10)))
	for range 1000 {
		require.True(t, b.put(make([]byte, 16<<10)))
		for left := 16 << 10; left > 0; {
			n, err := b.take(make([]byte, left))
			require.NoError(t, err)
			left -= n
		}
		require.Less(t, cap(b.buf), 256<<10)
	}
}

func TestOutbound(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	out, b, _ := call(t, ctx, rawh2.Options{ManualWindow: true}, func(s *rawh2.Stream) { _ = s.Headers(rawh2.ResponseFields(rawh2.F("a", "1")), false) })
	h, err := out.Header()
	require.NoError(t, err)
	require.Equal(t, stream.Metadata{{Key: "a", Value: "1"}}, h.Metadata)
	failed := make(chan error, 1)
	go func() { // ends with ctx
		for {
			if err := out.Write(make([]byte, 16<<10), false); err != nil {
				failed <- err
				return
			}
		}
	}()
	why := &stream.Failure{Reason: stream.Shutdown}
	cancel(why)
	require.Equal(t, why, out.Read(make([]byte, 1)))
	require.Equal(t, error(why), <-failed)
	out.Abort()
	out.Abort()
	require.Zero(t, b.Stats().Streams)
}

func TestOutboundEnds(t *testing.T) {
	for name, test := range map[string]struct {
		script func(*rawh2.Stream)
		reason stream.Reason // of Read's error, "" for io.EOF
	}{
		"trailers only": {func(s *rawh2.Stream) { _ = s.Status(5, "gone") }, ""},
		"inside a message": {func(s *rawh2.Stream) {
			_ = s.Headers(rawh2.ResponseFields(), false)
			_ = s.Data([]byte("12"), false)
			_ = s.Trailers(rawh2.F("grpc-status", "5"))
		}, stream.BackendProtocol},
		"no trailers": {func(s *rawh2.Stream) {
			_ = s.Headers(rawh2.ResponseFields(), false)
			_ = s.Data(nil, true)
		}, stream.BackendProtocol},
		"reset": {func(s *rawh2.Stream) { _ = s.Reset(http2.ErrCodeCancel) }, stream.BackendReset},
		"lost":  {func(s *rawh2.Stream) { s.Conn().Abort() }, stream.BackendDisconnected},
		"HTML": {func(s *rawh2.Stream) {
			_ = s.Headers(rawh2.Fields{rawh2.F(":status", "502"), rawh2.F("content-type", "text/html")}, false)
			_ = s.Data(make([]byte, 100), true)
		}, stream.BackendProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			out, b, _ := call(t, t.Context(), rawh2.Options{}, test.script)
			_, _ = out.Header()
			err := out.Read(make([]byte, 5))
			if test.reason == "" {
				require.Equal(t, io.EOF, err)
				require.EqualValues(t, 5, out.Trailer().Status.Code)
			} else {
				var f *stream.Failure
				require.True(t, errors.As(err, &f))
				require.Equal(t, test.reason, f.Reason)
			}
			out.Abort()
			require.Zero(t, b.Stats().Streams)
		})
	}
}
