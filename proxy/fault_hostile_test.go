package proxy_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// Clients that do not speak gRPC, or HTTP/2, or mean no good.

func TestFaultRapidReset(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, nil) // never answers
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	client := f.dial(rawh2.Options{})
	for range 1000 {
		s, err := client.NewStream(rawh2.RequestFields(faultMethod, f.addr), false)
		if err != nil {
			break // the proxy may put an end to it
		}
		if s.Reset(http2.ErrCodeCancel) != nil {
			break
		}
	}
	f.lives()
	for _, s := range backend.Streams() {
		_, err := s.AwaitReset(f.safe())
		require.NoError(t, err, "nothing is left open at the backend")
	}
}

func TestFaultMalformedRequests(t *testing.T) {
	request := func(path string, rest ...rawh2.Field) rawh2.Fields {
		return append(rawh2.Fields{
			rawh2.F(":method", "POST"), rawh2.F(":scheme", "http"), rawh2.F(":path", path), rawh2.F(":authority", "x"),
		}, rest...)
	}
	grpcType := rawh2.F("content-type", "application/grpc")
	requests := map[string]rawh2.Fields{
		"path /":             request("/", grpcType),
		"path /x":            request("/x", grpcType),
		"path without slash": request("no-slash", grpcType),
		"path empty":         request("", grpcType),
		"path absent":        {rawh2.F(":method", "POST"), rawh2.F(":scheme", "http"), grpcType},
		"path //":            request("//", grpcType),
		"path in UTF-8":      request("/\u00fc/\u00fc", grpcType),
		"content-type html":  request(faultMethod, rawh2.F("content-type", "text/html")),
		"no content-type":    request(faultMethod),
		"method GET":         {rawh2.F(":method", "GET"), rawh2.F(":scheme", "http"), rawh2.F(":path", faultMethod), grpcType},
		"bad grpc-timeout":   request(faultMethod, grpcType, rawh2.F("grpc-timeout", "forever")),
		"bad -bin value":     request(faultMethod, grpcType, rawh2.F("x-bin", "!!!")),
		"upper-case key":     request(faultMethod, grpcType, rawh2.F("X-Upper", "y")),
		"connection header":  request(faultMethod, grpcType, rawh2.F("connection", "close")),
		"unknown pseudo":     request(faultMethod, grpcType, rawh2.F(":what", "y")),
		"only one field":     {rawh2.F("x", "y")},
	}
	// A transparent proxy may leave the verdict on these to the backend, whose
	// answer is OK here. Kitex's transport does not look at the method, and
	// sends POST.
	okAllowed := map[string]bool{
		"path in UTF-8": true, "bad -bin value": true, "connection header": true, "path /x": true, "path //": true,
		"path /":     !onKitex(),
		"method GET": true,
	}
	backend := startRaw(t, rawh2.Options{}, echoRaw)
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	for name, fields := range requests {
		t.Run(name, func(t *testing.T) {
			f := f.in(t)
			client := f.dial(rawh2.Options{})
			s, err := client.NewStream(fields, true)
			require.NoError(t, err)
			// It ends, in whichever way: a status, a reset, or the connection.
			reply, err := s.AwaitReply(f.safe())
			if err != nil {
				require.NoError(t, client.AwaitClosed(f.safe()))
			} else if !okAllowed[name] {
				assert.NotEqual(t, "0", reply.Trailer.Get("grpc-status"), "%v", reply)
			}
			f.lives()
		})
	}
}

func TestFaultStrangePrefaces(t *testing.T) {
	prefaces := map[string]string{
		"nothing":         "",
		"garbage":         "\x00\x01\x02 what is this\r\n\r\n",
		"HTTP/1.1":        "POST " + faultMethod + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"TLS hello":       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"half a preface":  http2.ClientPreface[:12],
		"preface alone":   http2.ClientPreface,
		"wrong from half": http2.ClientPreface[:12] + "************",
		"no SETTINGS":     http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08",
	}
	f := startFaultProxy(t, faultConfig(loopback.Free(t)))
	for name, preface := range prefaces {
		t.Run(name, func(t *testing.T) {
			f := f.in(t)
			client := f.dial(rawh2.Options{NoPreface: true})
			if preface != "" {
				_ = client.RawWrite([]byte(preface)) // the proxy may have hung up
			}
			f.lives() // while the strange client is still there
			client.Close()
			f.lives()
		})
	}
}

func TestFaultGarbageInsteadOfAFrame(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, echoRaw)
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	client := f.dial(rawh2.Options{})
	requireOK(t, f.rawCall(client, faultMethod, nil), rawh2.Frame(0, nil))
	require.NoError(t, client.RawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, []byte{0xff, 0xff, 0xff, 0xff, 0xff}))
	require.NoError(t, client.AwaitClosed(f.safe()), "no header block can be read any more")
	f.lives()
}

// A flood may be cut off, but must not leave a connection that nobody serves
// and nobody closes: it would hold its place among limits.connections for ever.
func TestFaultFlood(t *testing.T) {
	floods := map[string]func(c *rawh2.Conn, i uint32) error{
		"PING": func(c *rawh2.Conn, i uint32) error { return c.Ping([8]byte{byte(i), byte(i >> 8)}) },
		"SETTINGS": func(c *rawh2.Conn, i uint32) error {
			return c.SendSettings(rawh2.Setting(http2.SettingInitialWindowSize, 65535+i))
		},
		"PRIORITY": func(c *rawh2.Conn, _ uint32) error {
			return c.RawFrame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 0, 1})
		},
		"WINDOW_UPDATE": func(c *rawh2.Conn, _ uint32) error { return c.WindowUpdate(0, 1) },
		"empty DATA": func(c *rawh2.Conn, _ uint32) error {
			return c.RawFrame(http2.FrameData, 0, 1, nil)
		},
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			cfg := faultConfig(loopback.Free(t))
			cfg.Timeouts.Keepalive = conf.Duration(time.Second) // may be what closes it
			f := startFaultProxy(t, cfg)
			client := f.dial(rawh2.Options{})
			for i := range uint32(1000) {
				if flood(client, i) != nil {
					break // cut off, as is the proxy's right
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			s, err := client.NewStream(rawh2.RequestFields(faultHealthyMethod, f.addr), true)
			if err == nil {
				_, err = s.AwaitReply(ctx)
			}
			if err != nil {
				require.NoError(t, client.AwaitClosed(ctx), "neither answered nor closed")
			}
			f.lives()
		})
	}
}

// Frames that have to be answered, for clients that do not read the answers.
const (
	rawPing     = "\x00\x00\x08\x06\x00\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"
	rawSettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
)

// floodUnread opens a connection and sends at most limit bytes of a frame,
// until the proxy has taken none for a while. It reads nothing.
func floodUnread(t *testing.T, addr, frame string, limit int) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, http2.ClientPreface+rawSettings)
	require.NoError(t, err)
	flood := strings.Repeat(frame, 1<<12)
	for sent := 0; sent < limit && err == nil; sent += len(flood) {
		// Nothing tells that a peer reads no more.
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
		_, err = io.WriteString(c, flood)
	}
	return c.(*net.TCPConn)
}

// A client that floods, does not read, and goes: the connection's place must
// be free again.
func TestFaultFloodWithoutReading(t *testing.T) {
	for name, frame := range map[string]string{"PING": rawPing, "SETTINGS": rawSettings} {
		t.Run(name, func(t *testing.T) {
			cfg := faultConfig(loopback.Free(t))
			cfg.Limits.Connections = 2
			cfg.Timeouts.Keepalive = conf.Duration(time.Second) // may be what frees it
			f := startFaultProxy(t, cfg)
			size := 8 << 20
			if raceDetector {
				size >>= 3 // what has been sent is worked off first, slowly
			}
			for range cfg.Limits.Connections {
				c := floodUnread(t, f.addr, frame, size)
				require.NoError(t, c.SetLinger(0))
				require.NoError(t, c.Close())
			}
			require.Eventually(t, func() bool {
				return f.call(f.safe(), faultHealthyMethod, nil).code == codes.OK
			}, faultSafety, 50*time.Millisecond, "the places of clients that have gone are free")
			f.lives()
		})
	}
}

// What the proxy does not get round to must wait in the client, not in the
// proxy's memory.
func TestFaultFloodIsNotHoarded(t *testing.T) {
	cfg := faultConfig(loopback.Free(t))
	cfg.Timeouts.Keepalive = conf.Duration(time.Second)
	f := startFaultProxy(t, cfg)
	before := reservedHeap()
	c := floodUnread(t, f.addr, rawSettings, 160<<20)
	requireHeapGrowth(t, before)
	require.NoError(t, c.Close())
	f.lives()
}

func TestFaultRandomBytesFromClient(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, echoRaw)
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		client := f.dial(rawh2.Options{NoPreface: r.IntN(2) == 0})
		if s, err := client.NewStream(rawh2.RequestFields(faultMethod, f.addr), false); err == nil {
			writeNonsense(client, s.ID(), r)
		}
		client.Close()
	}
	f.lives()
}

// Clients that open connections and go, with and without a RST.
func TestFaultConnectionChurn(t *testing.T) {
	f := startFaultProxy(t, faultConfig(loopback.Free(t)))
	for i := range 200 {
		c, err := net.Dial("tcp", f.addr)
		require.NoError(t, err)
		if i%2 == 0 {
			require.NoError(t, c.(*net.TCPConn).SetLinger(0))
		}
		_, _ = io.WriteString(c, http2.ClientPreface[:i%len(http2.ClientPreface)])
		require.NoError(t, c.Close())
	}
	f.lives()
}

// A client that reads nothing must not hold up others, nor make the proxy
// hold more than its windows.
func TestFaultClientThatDoesNotRead(t *testing.T) {
	const size = 32 << 20
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Data(rawh2.Prefix(0, size), false)
		for piece := make([]byte, 16<<10); s.Data(piece, false) == nil; {
		}
	})
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	before := reservedHeap()
	client := f.dial(rawh2.Options{ManualWindow: true})
	s := f.open(client, faultMethod)
	require.NoError(t, s.Data(rawh2.Frame(0, nil), true))
	body, err := s.AwaitBody(f.safe(), 65535)
	require.NoError(t, err)
	assert.Len(t, body, 65535, "the window is kept")
	f.standing++
	requireOK(t, f.call(f.safe(), faultHealthyMethod, []byte("x")), []byte("x"))
	requireHeapGrowth(t, before)
	f.standing--
	require.NoError(t, s.Reset(http2.ErrCodeCancel))
	code, err := backend.Streams()[0].AwaitReset(f.safe())
	require.NoError(t, err, "the cancel reaches the backend")
	require.Equal(t, http2.ErrCodeCancel, code)
	f.lives()
}
