package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// slowRequest sends the head of a request with a body of 10 bytes, and 4 of these.
func slowRequest(t *testing.T, s *started) *bufio.Reader {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST /shop.Shop/Plain HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{\"na")
	require.NoError(t, err)
	return bufio.NewReader(conn)
}

func TestBodiesThatDoNotComeAreNotWaitedFor(t *testing.T) {
	o := lean()
	o.BodyTimeout = time.Millisecond
	resp, err := http.ReadResponse(slowRequest(t, start(t, o)), nil)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	assert.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.JSONEq(t, `{"code":4,"message":"the body takes too long to come"}`, compact(string(body)))
}

// deadlines is a ResponseWriter that notes when its request has to have come.
type deadlines struct {
	httptest.ResponseRecorder
	all []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.all = append(d.all, t)
	return nil
}

// TestBodiesThatKeepComingAreWaitedFor: the time that a body has is longer the more of it
// has come, and when all of it has the connection has no deadline any more.
func TestBodiesThatKeepComingAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sent := new(deadlines), strings.Repeat("a", 2*stride+1)
		x := &exchange{
			endpoint: &endpoint{opts: &Options{BodyTimeout: time.Minute, MaxBody: 1 << 20}}, w: w,
			req: httptest.NewRequest("POST", "/", iotest.OneByteReader(strings.NewReader(sent))),
		}
		got, err := x.readBody()
		require.NoError(t, err)
		assert.Equal(t, sent, string(got))
		first := time.Now().Add(time.Minute)
		assert.Equal(t, []time.Time{first, first.Add(32 * time.Second), first.Add(64 * time.Second), {}}, w.all)
	})
}

// TestEventsWithoutComments: a keepalive below 0 is never, and not at once.
func TestEventsWithoutComments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		x := &exchange{endpoint: &endpoint{opts: &Options{KeepAlive: -1}}, w: w, ctx: t.Context()}
		e := newEvents(x, func() (proto.Message, error) {
			time.Sleep(time.Hour)
			return nil, io.EOF
		})
		_, err := e.recv()
		assert.Equal(t, io.EOF, err)
		assert.Empty(t, w.Body.String())
	})
}

// TestMasksOfDeepBodies: a mask has the names of all messages around a field, for each
// field, so that a body of a megabyte could make one of gigabytes.
func TestMasksOfDeepBodies(t *testing.T) {
	o := lean()
	o.MaxBody = 16 << 10
	s := start(t, o)
	deep := func(depth int, open, leaf, around string) string {
		return strings.Repeat(open, depth) + leaf + strings.Repeat(around, depth)
	}
	const tooLong = "its paths are too long"
	for name, c := range map[string]struct {
		body string
		bad  bool
	}{
		"messages":         {deep(400, `{"parent":`, `{}`, `,"ok":true}`), true},
		"a struct":         {`{"extra":` + deep(800, `{"a":`, `{}`, `,"b":1}`) + `}`, true},
		"not that deep":    {deep(50, `{"parent":`, `{}`, `,"ok":true}`), false},
		"lists are leaves": {`{"items":[` + deep(400, `{"parent":`, `{}`, `,"ok":true}`) + `],"ok":true}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.do(t, "PATCH /v1/items/a", c.body)
			if c.bad {
				assert.Equal(t, http.StatusBadRequest, got.status)
				assert.Contains(t, got.body, tooLong)
				return
			}
			assert.Equal(t, http.StatusOK, got.status, got.body)
			assert.Contains(t, got.body, `"updateMask"`)
		})
	}
}

func TestMaskSize(t *testing.T) {
	for body, size := range map[string]int{
		``: 0, `7`: 0, `"a"`: 0, `{}`: 0, `[{"a":1}]`: 0,
		`{"a":1}`:                         len("a."),
		`{"a":"b","c":{"d":null,"e":{}}}`: len("a.") + len("c.") + len("c.d.") + len("c.e."),
		`{"a":[{"b":[{}]},"c"],"d":true}`: len("a.") + len("d."),
	} {
		assert.EqualValues(t, size, maskSize([]byte(body)), body)
	}
}
