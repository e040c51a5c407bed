package kitexgrpc

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/streaming"
)

// This file is the only one that looks behind Kitex's exported API, and the
// only one that imports unsafe. A handler that returns an error cannot end a
// call with an exact status (Kitex appends " [biz error]" to the message), and
// cannot tell that a request has no message at all (Kitex then never delivers
// an end of stream), or answer in another content type than the request's. All
// need the transport and the stream that a server connection holds in
// unexported fields. Their types are exported; only the
// way to them is not. And Kitex advertises a limit of streams, but holds clients
// to another one. Every assumption is checked against the running Kitex before
// the first use, and a mismatch is an error that names it.

// serverConn mirrors nphttp2.serverConn of Kitex v0.16.3.
type serverConn struct {
	tr grpc.ServerTransport
	s  *grpc.Stream
}

// streamReadDone is the value of grpc.Stream's state once the client's
// END_STREAM has been received and nothing has been sent that ends the stream.
const streamReadDone = 2

// streamFields says where grpc.Stream keeps what arrived has to look at.
type streamFields struct {
	stateOffset   uintptr // uint32, accessed atomically
	subtypeOffset uintptr // string, read when a header is written
	buf           int     // index of the field that points to the receive buffer
	queue         int     // index, in the buffer, of the channel that holds the next part
}

// serverEnds returns the transport and the stream behind a server-side stream.
func serverEnds(st streaming.Stream) (grpc.ServerTransport, *grpc.Stream, error) {
	//lint:ignore SA1019 its successor decodes: this one hands over frames as they are
	conn, err := nphttp2.GetServerConn(st)
	if err != nil {
		return nil, nil, fmt.Errorf("stream of a Kitex gRPC server wanted: %w", err)
	}
	v := reflect.ValueOf(conn)
	if err := checkServerConn(v.Type()); err != nil {
		return nil, nil, err
	}
	c := (*serverConn)(v.UnsafePointer())
	return c.tr, c.s, nil
}

// requestComplete reports whether the client has ended its side of s, and s has
// not ended otherwise.
func requestComplete(s *grpc.Stream) bool {
	state := (*uint32)(unsafe.Add(unsafe.Pointer(s), fields.stateOffset))
	return atomic.LoadUint32(state) == streamReadDone
}

// nothingQueued reports whether no part of the request waits to be read. It
// is exact only before the first read.
func nothingQueued(s *grpc.Stream) bool {
	return reflect.ValueOf(s).Elem().Field(fields.buf).Elem().Field(fields.queue).Len() == 0
}

// setContentSubtype sets what follows "application/grpc+" in the content type
// of the response. It is for the goroutine that writes the response.
func setContentSubtype(s *grpc.Stream, subtype string) {
	*(*string)(unsafe.Add(unsafe.Pointer(s), fields.subtypeOffset)) = subtype
}

var fields, fieldsErr = findStreamFields(reflect.TypeFor[grpc.Stream]())

func findStreamFields(t reflect.Type) (streamFields, error) {
	state, ok := t.FieldByName("state")
	if !ok || state.Type.Kind() != reflect.Uint32 {
		return streamFields{}, layoutError("grpc.Stream has no field state of kind uint32")
	}
	subtype, ok := t.FieldByName("contentSubtype")
	if !ok || subtype.Type.Kind() != reflect.String {
		return streamFields{}, layoutError("grpc.Stream has no field contentSubtype of kind string")
	}
	buf, ok := t.FieldByName("buf")
	if !ok || buf.Type.Kind() != reflect.Pointer || buf.Type.Elem().Kind() != reflect.Struct {
		return streamFields{}, layoutError("grpc.Stream has no field buf that points to a struct")
	}
	queue, ok := buf.Type.Elem().FieldByName("c")
	if !ok || queue.Type.Kind() != reflect.Chan {
		return streamFields{}, layoutError("the receive buffer of grpc.Stream has no channel c")
	}
	return streamFields{
		stateOffset: state.Offset, subtypeOffset: subtype.Offset,
		buf: buf.Index[0], queue: queue.Index[0],
	}, nil
}

// checked remembers the verdict on each connection type seen: in practice one.
var checked sync.Map // reflect.Type -> error or nil

func checkServerConn(t reflect.Type) error {
	if verdict, ok := checked.Load(t); ok {
		err, _ := verdict.(error)
		return err
	}
	err := compareServerConn(t)
	checked.Store(t, err)
	return err
}

func compareServerConn(t reflect.Type) error {
	if fieldsErr != nil {
		return fieldsErr
	}
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return layoutError(fmt.Sprintf("a server connection is a %s, not a pointer to a struct", t))
	}
	have, want := t.Elem(), reflect.TypeFor[serverConn]()
	if have.NumField() != want.NumField() || have.Size() != want.Size() {
		return layoutError(fmt.Sprintf("%s has %d fields, not %d", have, have.NumField(), want.NumField()))
	}
	for i := range want.NumField() {
		h, w := have.Field(i), want.Field(i)
		if h.Name != w.Name || h.Type != w.Type || h.Offset != w.Offset {
			return layoutError(fmt.Sprintf("%s has %s %s where %s %s is expected", have, h.Name, h.Type, w.Name, w.Type))
		}
	}
	return nil
}

// LimitStreams holds the client of a connection to limit streams, as Kitex has
// told it to: more are refused with REFUSED_STREAM. A stream counts until its
// trailers have been written, whoever is to blame for the wait. ctx is what
// Kitex's OnActive has returned; the connection must not be read from yet.
func LimitStreams(ctx context.Context, limit uint32) error {
	field, err := findMaxStreams(reflect.ValueOf(ctx))
	if err != nil {
		return err
	}
	*(*uint32)(unsafe.Pointer(field.UnsafeAddr())) = limit
	return nil
}

// findMaxStreams finds the limit in the context's value, which is a
// *nphttp2.SvrTrans and holds the transport.
func findMaxStreams(ctx reflect.Value) (reflect.Value, error) {
	holder := member(member(ctx, "val"), "tr")
	limit := member(holder, "maxStreams")
	if !limit.IsValid() || limit.Kind() != reflect.Uint32 || !limit.CanAddr() {
		return reflect.Value{}, layoutError("the context of a connection leads to no transport with a field maxStreams of kind uint32")
	}
	return limit, nil
}

// member returns the field of that name in what v is, points to or holds, and
// the zero Value if there is none.
func member(v reflect.Value, name string) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

func layoutError(found string) error {
	return fmt.Errorf("this version of github.com/cloudwego/kitex differs from v0.16.3, which kitexproxy is built for: %s; "+
		"pin v0.16.3 in go.mod", found)
}
