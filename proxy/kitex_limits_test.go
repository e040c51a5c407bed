package proxy_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// What the proxy does not change, and what it keeps to one call, where Kitex's
// own transport does otherwise. Each claim is asked of both transports. It has
// to hold on native; on kitex one that fails is skipped with the reason, which
// the README gives under Limits.

// claim is one thing that clients or backends can see.
type claim struct {
	name string
	// kitexLimit says why the claim fails on Kitex's transport, "" if it holds
	// there too.
	kitexLimit string
	// streamsLimit says why the claim fails on native's blocking streams, ""
	// if it holds there too.
	streamsLimit string
	// script is what the backend does. nil answers OK.
	script func(*rawh2.Stream)
	// problem makes calls, and says what is wrong with them, "" for nothing.
	problem func(f *claimProxy) string
}

func TestKitexLimits(t *testing.T) {
	quietKitex()
	groups := map[string][]claim{
		"request": requestClaims(), "response": responseClaims(), "status": statusClaims(),
		"shape": shapeClaims(), "neighbours": neighbourClaims(),
	}
	for name, w := range proxytest.Ways {
		for group, claims := range groups {
			for _, c := range claims {
				t.Run(name+"/"+group+"/"+c.name, func(t *testing.T) {
					if w.Transport == conf.TransportNative {
						t.Parallel() // as in TestConformance
					}
					f := startClaimProxy(t, c.script, w)
					limit := ""
					switch {
					case w.Transport == conf.TransportKitex:
						limit = c.kitexLimit
					case w.OnStreams():
						limit = c.streamsLimit
					}
					problem := c.problem(f)
					if problem != "" && limit != "" {
						t.Skipf("%s; reason: %s", problem, limit)
					}
					require.Empty(t, problem)
					f.settles()
				})
			}
		}
	}
}

// claimProxy is a proxy before one backend, with one connection to it.
type claimProxy struct {
	*faultProxy
	backend *rawh2.Server
}

func startClaimProxy(t *testing.T, script func(*rawh2.Stream), w proxytest.Way) *claimProxy {
	t.Helper()
	if script == nil {
		script = answerOK
	}
	backend := startRaw(t, rawh2.Options{}, script)
	cfg := faultConfig(backend.Addr())
	cfg.Clusters["default"].Connections = 1
	p := w.Proxy(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	f := &faultProxy{t: t, p: p, cancel: cancel, ran: make(chan error, 1)}
	go func() { f.ran <- p.Run(ctx) }() // ends with stop
	t.Cleanup(func() { require.NoError(t, f.stop(), "Run") })
	select {
	case <-p.Ready():
	case err := <-f.ran:
		f.ran <- err
		t.Fatalf("proxy did not start: %v", err)
	}
	f.addr = p.Addrs()[0].String()
	return &claimProxy{f, backend}
}

func answerOK(s *rawh2.Stream) {
	if _, err := s.AwaitEndStream(s.Context()); err == nil {
		_ = s.OK([]byte("reply"))
	}
}

// request is the head of a request with these fields; a content-type is instead
// of the usual one.
func (f *claimProxy) request(fields ...rawh2.Field) rawh2.Fields {
	other := rawh2.Fields(fields).Has("content-type")
	head := slices.DeleteFunc(rawh2.RequestFields(faultMethod, f.addr), func(h rawh2.Field) bool {
		return other && h.Name == "content-type"
	})
	return append(head, fields...)
}

// callWith makes a call with these fields in the head of its request, on a
// connection of its own.
func (f *claimProxy) callWith(fields ...rawh2.Field) rawh2.Reply {
	f.t.Helper()
	client := f.dial(rawh2.Options{})
	defer client.Close()
	s, err := client.NewStream(f.request(fields...), false)
	require.NoError(f.t, err)
	_ = s.Data(rawh2.Frame(0, []byte("request")), true) // it may have been reset
	return f.reply(s)
}

func (f *claimProxy) reply(s *rawh2.Stream) rawh2.Reply {
	f.t.Helper()
	reply, err := s.AwaitReply(f.safe())
	require.NoError(f.t, err)
	return reply
}

// notOK says what is wrong with the reply to a call that was answered well.
func notOK(r rawh2.Reply) string {
	if r.Reset != nil {
		return r.Reset.Error()
	}
	if got := r.Trailer.Get("grpc-status"); got != "0" {
		return fmt.Sprintf("the call ended with %s", r.Trailer)
	}
	return ""
}

// missing says which of the fields wanted have not come as they were.
func missing(wanted, got rawh2.Fields) string {
	for _, field := range wanted {
		if g, w := got.Values(field.Name), wanted.Values(field.Name); fmt.Sprintf("%q", g) != fmt.Sprintf("%q", w) {
			return fmt.Sprintf("%s has come as %q instead of %q", field.Name, g, w)
		}
	}
	return ""
}

// carriesRequest claims that the backend gets these fields as the client has
// sent them.
func carriesRequest(name, kitexLimit string, fields ...rawh2.Field) claim {
	return claim{name: name, kitexLimit: kitexLimit, problem: func(f *claimProxy) string {
		if problem := notOK(f.callWith(fields...)); problem != "" {
			return problem
		}
		return missing(fields, f.backend.Streams()[0].Request())
	}}
}

const bizRequestLimit = "it takes these fields out of a request's metadata, and resets the stream if it cannot read them"

func requestClaims() []claim {
	return []claim{
		carriesRequest("biz-status", bizRequestLimit, rawh2.F("biz-status", "7")),
		carriesRequest("biz-status that is no number", bizRequestLimit, rawh2.F("biz-status", "abc")),
		carriesRequest("biz-extra", bizRequestLimit, rawh2.F("biz-extra", `{"a":"b"}`)),
		carriesRequest("biz-extra that is no JSON", bizRequestLimit, rawh2.F("biz-extra", "notjson")),
		carriesRequest("user-agent", "it sends one of its own", rawh2.F("user-agent", "claims/1 (of a client)")),
		carriesRequest("content-type with a parameter", "it keeps the subtype only, and writes it behind a plus",
			rawh2.F("content-type", "application/grpc;x")),
		carriesRequest("-bin values joined by a comma", "it drops what it cannot decode", rawh2.F("x-bin", "AQ,Ag")),
		carriesRequest("-bin value with padding", "it decodes the value and encodes it again", rawh2.F("x-bin", "AQ==")),
		carriesRequest("-bin value that is no base64", "it drops what it cannot decode", rawh2.F("x-bin", "!!!")),
		{name: "order of different keys", kitexLimit: "it keeps metadata in a map", problem: func(f *claimProxy) string {
			var want rawh2.Fields
			for i := range 20 {
				want = append(want, rawh2.F(fmt.Sprintf("x-%d", i*7%20), strconv.Itoa(i)))
			}
			if problem := notOK(f.callWith(want...)); problem != "" {
				return problem
			}
			var got rawh2.Fields
			for _, field := range f.backend.Streams()[0].Request() {
				if strings.HasPrefix(field.Name, "x-") {
					got = append(got, field)
				}
			}
			if got.String() != want.String() {
				return "the order is another: " + got.String()
			}
			return ""
		}},
		{name: "grpc-timeout that is none", problem: func(f *claimProxy) string {
			reply := f.callWith(rawh2.F("grpc-timeout", "zz"))
			if got := reply.Trailer.Get(stream.ReasonKey); got != string(stream.RequestMalformed) || reply.Trailer.Get("grpc-status") != "13" {
				return fmt.Sprintf("not INTERNAL with %s: %v %v", stream.RequestMalformed, reply.Trailer, reply.Reset)
			}
			return ""
		}, kitexLimit: "it resets the stream"},
		{name: "header list over the limit", problem: func(f *claimProxy) string {
			client := f.dial(rawh2.Options{})
			s, err := client.NewStream(f.request(rawh2.F("x-big", strings.Repeat("~", 3<<19))), true)
			if err != nil {
				return "the client was cut off: " + err.Error()
			}
			reply, err := s.AwaitReply(f.safe())
			if err != nil {
				return "the client was cut off: " + err.Error()
			}
			if reply.Trailer.Get(":status") != "431" && reply.Trailer.Get("grpc-status") == "" {
				return fmt.Sprintf("neither 431 nor a status: %v %v", reply.Trailer, reply.Reset)
			}
			return ""
		}, kitexLimit: "it ends the connection"},
	}
}

// carriesResponse claims that the client gets these fields of a call that ends
// with OK.
func carriesResponse(name, kitexLimit string, header, trailer rawh2.Fields) claim {
	return claim{
		name: name, kitexLimit: kitexLimit,
		script: func(s *rawh2.Stream) {
			_, _ = s.AwaitEndStream(s.Context())
			_ = s.Headers(rawh2.ResponseFields(header...), false)
			_ = s.Message(0, []byte("reply"))
			_ = s.Trailers(append(rawh2.Fields{okTrailer}, trailer...)...)
		},
		problem: func(f *claimProxy) string {
			reply := f.callWith()
			if problem := notOK(reply); problem != "" {
				return problem
			}
			if problem := missing(header, reply.Header); problem != "" {
				return "header " + problem
			}
			if problem := missing(trailer, reply.Trailer); problem != "" {
				return "trailer " + problem
			}
			return ""
		},
	}
}

func responseClaims() []claim {
	const (
		headerLimit  = "it takes biz-status and biz-extra for its own wherever they are"
		trailerLimit = "it reads biz-status and biz-extra as its own servers write them, and nothing else"
	)
	fields := func(namesAndValues ...string) (fs rawh2.Fields) {
		for i := 0; i < len(namesAndValues); i += 2 {
			fs = append(fs, rawh2.F(namesAndValues[i], namesAndValues[i+1]))
		}
		return fs
	}
	return []claim{
		carriesResponse("biz-status in headers", headerLimit, fields("biz-status", "7"), nil),
		carriesResponse("biz-extra in headers", headerLimit, fields("biz-extra", `{"a":"b"}`), nil),
		carriesResponse("biz-status", trailerLimit, nil, fields("biz-status", "7", "biz-extra", `{"a":"b"}`)),
		carriesResponse("biz-status that is no number", trailerLimit, nil, fields("biz-status", "abc")),
		carriesResponse("biz-extra that is no JSON", trailerLimit, nil, fields("biz-status", "7", "biz-extra", "notjson")),
		carriesResponse("biz-extra with a number", trailerLimit, nil, fields("biz-status", "7", "biz-extra", `{"a":1}`)),
		carriesResponse("biz-extra in another spelling", trailerLimit, nil, fields("biz-status", "7", "biz-extra", `{ "b":"1","a":"2" }`)),
		carriesResponse("biz-extra alone", trailerLimit, nil, fields("biz-extra", `{"a":"b"}`)),
		carriesResponse("biz-extra alone, no JSON", trailerLimit, nil, fields("biz-extra", "notjson")),
		carriesResponse("biz-status twice", trailerLimit, nil, fields("biz-status", "7", "biz-status", "8")),
		carriesResponse("-bin values joined by a comma", "it drops what it cannot decode",
			fields("x-bin", "AQ,Ag"), fields("y-bin", "AQ,Ag")),
		{
			name: "informational responses", kitexLimit: "it takes the first header block for the response",
			script: func(s *rawh2.Stream) {
				_, _ = s.AwaitEndStream(s.Context())
				_ = s.Headers(rawh2.Fields{rawh2.F(":status", "100")}, false)
				_ = s.Headers(rawh2.Fields{rawh2.F(":status", "103"), rawh2.F("link", "</x>")}, false)
				_ = s.OK([]byte("reply"))
			},
			problem: func(f *claimProxy) string {
				reply := f.callWith()
				if problem := notOK(reply); problem != "" {
					return problem
				}
				if string(reply.Body) != string(rawh2.Frame(0, []byte("reply"))) {
					return fmt.Sprintf("the reply is %q", reply.Body)
				}
				return missing(rawh2.ResponseFields(), reply.Header)
			},
		},
	}
}

// carriesStatus claims that the client gets the end of a call as the backend
// has written it.
func carriesStatus(name, kitexLimit string, trailer ...rawh2.Field) claim {
	return claim{
		name: name, kitexLimit: kitexLimit,
		script: func(s *rawh2.Stream) {
			_, _ = s.AwaitEndStream(s.Context())
			trailers(trailer...)(s)
		},
		problem: func(f *claimProxy) string {
			reply := f.callWith()
			if reply.Reset != nil {
				return reply.Reset.Error()
			}
			return missing(trailer, reply.Trailer)
		},
	}
}

func statusClaims() []claim {
	const (
		messageLimit = "it decodes the message, puts U+FFFD for bytes that are not UTF-8, and encodes it again"
		streamsLimit = "code and message are read and written anew, in the usual spelling"
	)
	message := func(name, value string) claim {
		return carriesStatus(name, messageLimit, rawh2.F("grpc-status", "13"), rawh2.F("grpc-message", value))
	}
	claims := []claim{
		message("message that is not UTF-8", "%FF%FE"),
		carriesStatus("largest code", "it reads a code into 32 bits with a sign", rawh2.F("grpc-status", "4294967295")),
	}
	spellings := []claim{
		message("message that is not UTF-8, unescaped", "\xff\xfe"),
		message("message with needless escapes", "%c3%bc%41"),
		carriesStatus("code with zeros before it", "it writes the code anew", rawh2.F("grpc-status", "007")),
	}
	for i := range spellings {
		spellings[i].streamsLimit = streamsLimit
	}
	return append(claims, spellings...)
}

func shapeClaims() []claim {
	const streamsLimit = "open: the end of a request is sent in an empty DATA frame"
	return []claim{{
		name: "HEADERS that end the stream", streamsLimit: streamsLimit,
		kitexLimit: "it ends a request's stream with DATA only",
		problem: func(f *claimProxy) string {
			s, err := f.dial(rawh2.Options{}).NewStream(f.request(), true)
			require.NoError(f.t, err)
			if problem := notOK(f.reply(s)); problem != "" {
				return problem
			}
			events := f.backend.Streams()[0].Events()
			if len(events) != 1 || !events[0].EndStream {
				return fmt.Sprintf("the backend has got %v", events)
			}
			return ""
		},
	}, {
		name: "END_STREAM on the last DATA", streamsLimit: streamsLimit,
		kitexLimit: "it sends an empty DATA frame behind a request that was not complete when it began",
		script:     echoEachRaw,
		problem: func(f *claimProxy) string {
			s := f.open(f.dial(rawh2.Options{}), faultMethod)
			ping := rawh2.Frame(0, []byte("ping"))
			require.NoError(f.t, s.Data(ping, false))
			_, err := s.AwaitBody(f.safe(), len(ping))
			require.NoError(f.t, err)
			require.NoError(f.t, s.Data(ping, true))
			if problem := notOK(f.reply(s)); problem != "" {
				return problem
			}
			events := f.backend.Streams()[0].Events()
			if len(events) != 3 || !events[2].EndStream {
				return fmt.Sprintf("the backend has got %v", events)
			}
			return ""
		},
	}}
}

// sparesNeighbours claims that an answer harms no other call on the connection
// to the backend, and that its own call ends with a status.
func sparesNeighbours(name, kitexLimit string, answer func(*rawh2.Stream), wrong func(rawh2.Reply) string) claim {
	return claim{
		name: name, kitexLimit: kitexLimit,
		script: func(s *rawh2.Stream) {
			if s.Request().Get("shape") == "stream" {
				echoEachRaw(s)
				return
			}
			_, _ = s.AwaitEndStream(s.Context())
			answer(s)
		},
		problem: func(f *claimProxy) string {
			neighbour := f.openStream(f.dial(rawh2.Options{}))
			reply := f.callWith()
			streams := f.backend.Streams()
			require.Same(f.t, streams[0].Conn(), streams[1].Conn(), "both calls are on one connection")
			_ = neighbour.Data(rawh2.Frame(0, []byte("ping")), true) // it may have ended
			if problem := notOK(f.reply(neighbour)); problem != "" {
				return "the call beside it: " + problem
			}
			return wrong(reply)
		},
	}
}

// endsWith says how a call has ended otherwise than with a status and a mark.
func endsWith(code codes.Code, reason stream.Reason) func(rawh2.Reply) string {
	return func(r rawh2.Reply) string {
		want := rawh2.Fields{rawh2.F("grpc-status", strconv.FormatUint(uint64(code), 10))}
		if reason != "" {
			want = append(want, rawh2.F(stream.ReasonKey, string(reason)))
		}
		if r.Reset != nil {
			return r.Reset.Error()
		}
		return missing(want, r.Trailer)
	}
}

func neighbourClaims() []claim {
	const codeLimit = "it stops reading a connection on which a code comes that does not fit 32 bits with a sign"
	return []claim{
		sparesNeighbours("response header of 1.5 MB", "it ends the whole connection", func(s *rawh2.Stream) {
			_ = s.Headers(rawh2.ResponseFields(rawh2.F("x-big", strings.Repeat("~", 1_500_000))), false)
			_ = s.Message(0, []byte("reply"))
			_ = s.Trailers(okTrailer)
		}, endsWith(codes.Internal, stream.BackendProtocol)),
		sparesNeighbours("trailer of 1.5 MB", "it ends the whole connection",
			trailers(okTrailer, rawh2.F("x-big", strings.Repeat("~", 1_500_000))), endsWith(codes.Internal, stream.BackendProtocol)),
		sparesNeighbours("grpc-status 99999999999", codeLimit,
			trailers(rawh2.F("grpc-status", "99999999999")), endsWith(codes.Unknown, stream.BackendProtocol)),
		sparesNeighbours("grpc-status 4294967295", codeLimit,
			trailers(rawh2.F("grpc-status", "4294967295")), endsWith(codes.Code(4294967295), "")),
	}
}
