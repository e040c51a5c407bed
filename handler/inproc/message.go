package inproc

import (
	"encoding/binary"
	"errors"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/compress"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Errors that a response ends in, with the codes of grpc-go.
var (
	errTruncated     = status.Error(codes.Internal, "the response ends inside a message")
	errNoMessageCame = status.Error(codes.Internal, "the response has no message, and the status OK: the method must have one")
	errSecondMessage = status.Error(codes.Internal, "the response has a second message: the method may have only one")
)

func errNoMessage(m any) error {
	return status.Errorf(codes.Internal, "%T is not a proto.Message", m)
}

// encode returns m in gRPC's wire form. Whoever reads it gives it back by release.
func encode(m any, limit int) (*[]byte, error) {
	message, ok := m.(proto.Message)
	if !ok {
		return nil, errNoMessage(m)
	}
	frame := frames.Get().(*[]byte)
	encoded, err := proto.MarshalOptions{}.MarshalAppend((*frame)[:stream.PrefixLen], message)
	if err != nil {
		release(frame)
		return nil, status.Errorf(codes.Internal, "the request cannot be encoded: %v", err)
	}
	*frame = encoded
	length := len(encoded) - stream.PrefixLen
	if length > limit || length > math.MaxInt32 {
		release(frame)
		return nil, status.Errorf(codes.ResourceExhausted,
			"the request has a message of %d bytes, more than the call's limit of %d", length, limit)
	}
	encoded[0] = 0
	binary.BigEndian.PutUint32(encoded[1:], uint32(length))
	return frame, nil
}

// frame is a message in gRPC's wire form.
type frame []byte

// cut returns the first message of buf, nil if it has not come whole, and what is
// behind it. The error is of one that the client cannot take.
func cut(buf []byte, limit int) (f frame, rest []byte, err error) {
	if len(buf) < stream.PrefixLen {
		return nil, buf, nil
	}
	if buf[0] > 1 {
		return nil, nil, status.Errorf(codes.Internal, "the response has a message with the flags %#02x: it is not gRPC", buf[0])
	}
	length := int64(binary.BigEndian.Uint32(buf[1:]))
	if length > int64(limit) {
		return nil, nil, status.Errorf(codes.ResourceExhausted,
			"the response has a message of %d bytes, more than the call's limit of %d", length, limit)
	}
	if int64(len(buf)-stream.PrefixLen) < length {
		return nil, buf, nil
	}
	end := stream.PrefixLen + int(length)
	return frame(buf[:end:end]), buf[end:], nil
}

// decode reads the message into m. encoding is that of the response, and limit how
// long the message may be, decompressed.
func (f frame) decode(m proto.Message, encoding string, limit int) error {
	payload := []byte(f[stream.PrefixLen:])
	if f[0] == 1 {
		var err error
		if payload, err = decompress(payload, encoding, limit); err != nil {
			return err
		}
	}
	if err := proto.Unmarshal(payload, m); err != nil {
		return status.Errorf(codes.Internal,
			"the response has a message that is no %s: %v", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// decompress undoes an encoding. The codes are grpc-go's.
func decompress(payload []byte, encoding string, limit int) ([]byte, error) {
	if encoding == "" || encoding == "identity" {
		return nil, status.Error(codes.Internal, "the response has a compressed message, and no grpc-encoding")
	}
	e := compress.Find(encoding)
	if e == nil {
		return nil, status.Errorf(codes.Unimplemented,
			"the response is compressed in a way that is not known: grpc-encoding %q", encoding)
	}
	plain, err := e.Decompress(payload, limit)
	if errors.Is(err, compress.ErrTooLong) {
		return nil, status.Errorf(codes.ResourceExhausted, "the response has a message that cannot be decompressed: %v", err)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "the response has a message that is not %s: %v", encoding, err)
	}
	return plain, nil
}

// join returns a and b in one piece. It leaves b as it is, and has taken a over. What
// is joined again and again is not copied more than twice.
func join(a, b []byte) []byte {
	if len(a) == 0 {
		return b[:len(b):len(b)]
	}
	if need := len(a) + len(b); need > cap(a) {
		a = append(make([]byte, 0, max(need, 2*len(a))), a...)
	}
	return append(a, b...)
}
