package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// readBody returns the body, which must not be larger than MaxBody.
func (x *exchange) readBody() ([]byte, error) {
	if x.req.ContentLength > x.opts.MaxBody {
		return nil, x.opts.errTooLarge()
	}
	var b bytes.Buffer
	if n := x.req.ContentLength; n > 0 {
		b.Grow(int(min(n, 64<<10)) + bytes.MinRead) // a client may say more than it sends
	}
	body := x.timedBody()
	defer body.stop()
	if _, err := b.ReadFrom(io.LimitReader(body, x.opts.MaxBody+1)); err != nil {
		return nil, bodyError(err)
	}
	if int64(b.Len()) > x.opts.MaxBody {
		return nil, x.opts.errTooLarge()
	}
	return b.Bytes(), nil
}

// bodyError returns the status for a body that has not come to its end.
func bodyError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &runtime.HTTPStatusError{
			HTTPStatus: http.StatusRequestTimeout,
			Err:        status.Error(codes.DeadlineExceeded, "the body takes too long to come"),
		}
	}
	return invalid("the body broke off")
}

// timedBody is a body that has to come in time: nothing else ends a connection whose
// client has sent the head of a request and goes on as slowly as it can.
type timedBody struct {
	io.Reader
	control *http.ResponseController // nil for no limit
	until   time.Time
	ahead   int // bytes that have come and have not moved until
}

const (
	// slowest is how many bytes of a body have to come in a second, as soon as the
	// time is over that each body has.
	slowest = 1 << 10
	// stride is how many bytes have to come for the deadline to be moved.
	stride = 32 * slowest
)

func (x *exchange) timedBody() *timedBody {
	b := &timedBody{Reader: x.req.Body}
	if x.opts.BodyTimeout < 0 || x.req.Body == http.NoBody {
		return b
	}
	b.control, b.until = http.NewResponseController(x.w), time.Now().Add(x.opts.BodyTimeout)
	if b.control.SetReadDeadline(b.until) != nil {
		b.control = nil // it is no connection, as in tests
	}
	return b
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.ahead += n
	if b.control != nil && b.ahead >= stride {
		b.until = b.until.Add(time.Duration(b.ahead) * time.Second / slowest)
		b.ahead = 0
		_ = b.control.SetReadDeadline(b.until) // as it has worked before
	}
	return n, err
}

// stop has the connection be read for as long as it takes: net/http reads on, to learn
// when the client goes.
func (b *timedBody) stop() {
	if b.control != nil && time.Now().Before(b.until) {
		_ = b.control.SetReadDeadline(time.Time{})
	}
}

// maskFactor is how much longer than the longest body the paths may be that a body's field
// mask is made of.
const maskFactor = 8

// maskSize returns how many bytes the paths of a body's fields have together, which can be
// far more than the body has: each has the names of all that are around it in front.
func maskSize(body []byte) (total int64) {
	var prefixes []int64 // of the objects that are open
	decoder := json.NewDecoder(bytes.NewReader(body))
	lists, path, isKey := 0, int64(0), false
	for {
		token, err := decoder.Token()
		if err != nil {
			return total // at its end: that it is JSON is known
		}
		key, text := token.(string)
		switch token {
		case json.Delim('['):
			lists++ // paths end there
		case json.Delim(']'):
			lists--
		}
		if lists > 0 {
			continue
		}
		switch {
		case token == json.Delim('{'):
			prefixes, isKey = append(prefixes, path), true
		case token == json.Delim('}'):
			prefixes, isKey = prefixes[:len(prefixes)-1], true
		case isKey && text && len(prefixes) > 0:
			path, isKey = prefixes[len(prefixes)-1]+int64(len(key))+1, false
			total += path
		default:
			isKey = true
		}
	}
}
