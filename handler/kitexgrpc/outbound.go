package kitexgrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/utils"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// outbound is a stream on a Kitex client transport.
type outbound struct {
	ctx   context.Context
	conn  *upstream.Conn
	tr    grpc.ClientTransport // of conn
	s     *grpc.Stream
	where where

	ended    atomic.Bool // the transport has ended the stream
	released atomic.Bool // conn has been given back
}

// where names a backend in messages.
type where struct{ cluster, address string }

func (w where) String() string { return fmt.Sprintf("cluster %q: instance %s", w.cluster, w.address) }

var _ stream.Outbound = (*outbound)(nil)

func (o *outbound) Header() (*stream.Header, error) {
	md, err := o.s.Header()
	switch {
	case err != nil:
		return nil, o.failure(err)
	case md == nil:
		// The stream never got onto the connection.
		return nil, o.failure(errNeverSent)
	case o.s.TrailersOnly():
		return nil, nil
	}
	return &stream.Header{ContentType: contentTypeOf(md), Encoding: o.s.RecvCompress(), Metadata: fromMD(md)}, nil
}

var errNeverSent = errors.New("the connection went away before the call was sent")

func (o *outbound) Read(p []byte) error {
	_, err := o.s.Read(p)
	switch {
	case err == nil:
		return nil
	case err == io.EOF && !o.s.Unprocessed() && !o.madeByKitex(o.s.Status()):
		o.ended.Store(true)
		return o.checkCode()
	default:
		return o.failure(err)
	}
}

// checkCode returns io.EOF if the trailers' status is one that can be passed on.
// Kitex lets a negative grpc-status through, as no code that exists, and takes
// the code of grpc-status-details-bin for the status: an OK with details may
// have been none, and no answer is made up as OK.
func (o *outbound) checkCode() error {
	st := o.s.Status()
	problem := ""
	switch code := st.Code(); {
	case code > math.MaxInt32:
		problem = fmt.Sprintf("grpc-status %d is not a status code", int32(code))
	case code == 0 && len(st.Details()) > 0:
		problem = "grpc-status-details-bin says OK, and what grpc-status says is lost"
	default:
		return io.EOF
	}
	return &stream.Failure{
		Reason: stream.BackendProtocol, Code: stream.Unknown,
		Message: fmt.Sprintf("%s: %s", o.where, problem),
	}
}

// Ready cannot tell; at worst something is flushed that could have waited.
func (o *outbound) Ready(int) bool { return false }

// Flush does nothing: Kitex's transport flushes by itself.
func (o *outbound) Flush() {}

func (o *outbound) Write(b []byte, last bool) error {
	opts := moreToCome
	if last {
		opts = lastOfAll
	}
	return o.tr.Write(o.s, nil, b, opts)
}

// The transport reads these and never changes them.
var (
	moreToCome = &grpc.Options{Last: false}
	lastOfAll  = &grpc.Options{Last: true}
)

func (o *outbound) Trailer() *stream.Trailer {
	st, md := o.s.Status(), o.s.Trailer()
	t := &stream.Trailer{
		Status:      stream.Status{Code: stream.Code(st.Code()), Message: st.Message()},
		Metadata:    fromMD(md),
		ContentType: contentTypeOf(md),
	}
	if t.Status.Code != stream.OK {
		t.Status.Details = details(st)
	}
	if biz := o.s.BizStatusErr(); biz != nil {
		extra := ""
		if len(biz.BizExtra()) > 0 {
			extra, _ = utils.Map2JSONStr(biz.BizExtra())
		}
		t.Metadata = appendBizStatus(t.Metadata, biz.BizStatusCode(), extra)
	}
	return t
}

// details encodes the status again as Kitex has decoded it: it does not keep
// the bytes that came.
func details(st *status.Status) []byte {
	p := st.Proto()
	if len(p.GetDetails()) == 0 {
		return nil
	}
	b, err := proto.Marshal(p)
	if err != nil {
		return nil
	}
	return b
}

func (o *outbound) Abort() {
	if !o.released.CompareAndSwap(false, true) {
		return
	}
	if !o.ended.Load() {
		o.tr.CloseStream(o.s, errAborted)
	}
	o.conn.Release()
}

var errAborted = status.Err(1, "given up by the proxy")

// failure says how the stream ended, given what the transport returned.
func (o *outbound) failure(err error) *stream.Failure {
	if o.ctx.Err() != nil {
		return contextFailure(o.ctx)
	}
	o.ended.Store(true)
	st := o.s.Status()
	if st == nil {
		st = status.Convert(err)
	}
	f := &stream.Failure{Code: stream.Code(st.Code()), Message: fmt.Sprintf("%s: %s", o.where, st.Message())}
	var lost grpc.ConnectionError
	switch {
	case o.s.Unprocessed() || errors.Is(err, errNeverSent):
		f.Reason, f.Code, f.Unprocessed = stream.BackendRefused, stream.Unavailable, true
	case errors.As(err, &lost) || st.Message() == grpc.ErrConnClosing.Desc:
		f.Reason, f.Code = stream.BackendDisconnected, stream.Unavailable
		f.Message = fmt.Sprintf("%s: the connection was lost before the call ended", o.where)
	case strings.HasPrefix(st.Message(), rstText) || st.Message() == shutdownText:
		f.Reason = stream.BackendReset
	case err == io.ErrUnexpectedEOF && !o.madeByKitex(st):
		f.Reason, f.Code = stream.BackendProtocol, stream.Internal
		f.Message = fmt.Sprintf("%s: the response ends inside a message", o.where)
	default:
		f.Reason = stream.BackendProtocol
	}
	if f.Code == stream.OK {
		f.Code = stream.Internal
	}
	return f
}

// The texts of statuses that Kitex's client transport makes up where a backend
// ended a stream without trailers. It leaves no other mark on them.
const (
	rstText        = "stream terminated by RST_STREAM with error code: "
	noTrailersText = "server closed the stream without sending trailers"
	overflowText   = "received "
	overflowText2  = "-bytes data exceeding the limit "
	shutdownText   = "graceful shutdown"
)

// madeByKitex reports whether st is not the backend's. Metadata is: Kitex makes
// up none.
func (o *outbound) madeByKitex(st *status.Status) bool {
	m := st.Message()
	if m == "" || len(o.s.Trailer()) > 0 {
		return false
	}
	return strings.HasPrefix(m, rstText) || m == noTrailersText || m == shutdownText ||
		strings.HasPrefix(m, overflowText) && strings.Contains(m, overflowText2)
}

// contextFailure is the end of a call whose context has ended. The relay knows
// better why, and says so instead.
func contextFailure(ctx context.Context) *stream.Failure {
	cause := context.Cause(ctx)
	var f *stream.Failure
	switch {
	case errors.As(cause, &f):
		return f
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &stream.Failure{Reason: stream.DeadlinePassed, Code: stream.DeadlineExceeded, Message: "deadline exceeded"}
	default:
		return stream.CanceledByClient
	}
}

func messageOf(err error) string { return status.Convert(err).Message() }
