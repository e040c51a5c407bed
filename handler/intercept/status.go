package intercept

import (
	"context"
	"errors"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// TrailerOf says how a call ends that a link, or a director, has ended with err: with
// the status that grpc-go's status.FromError finds in it, with the code of a context's
// error, as EndWith or a *stream.Failure says, or with UNKNOWN and the text; nil is OK.
func TrailerOf(err error) *stream.Trailer {
	var (
		local *stream.Failure
		end   *ended
	)
	switch {
	case err == nil:
		return &stream.Trailer{}
	case errors.As(err, &local):
		return local.Trailer()
	case errors.As(err, &end) && err == error(end):
		return end.trailer
	}
	t := &stream.Trailer{
		Status:   stream.Status{Code: codeOf(err), Message: err.Error()},
		Metadata: stream.Metadata{{Key: stream.ReasonKey, Value: string(stream.Rejected)}},
	}
	// The message of a status that is wrapped is the whole text, as in grpc-go. An error is
	// not OK, whatever it says.
	if st, ok := status.FromError(err); ok && st.Proto().GetCode() != 0 {
		t.Status.Code, t.Status.Message = stream.Code(st.Code()), st.Message()
		t.Status.Details = DetailsOf(st.Proto())
	}
	return t
}

// EndWith returns the error of a link that ends a call exactly so.
func EndWith(t *stream.Trailer) error { return &ended{t} }

// ended is the error of a call that ends, or has ended, so.
type ended struct{ trailer *stream.Trailer }

// Error implements error.
func (e *ended) Error() string { return e.GRPCStatus().String() }

// GRPCStatus is what grpc-go's status.FromError asks for.
func (e *ended) GRPCStatus() *status.Status {
	s := &e.trailer.Status
	p := &spb.Status{}
	if s.Details != nil && proto.Unmarshal(s.Details, p) != nil {
		p = &spb.Status{} // code and message do without
	}
	p.Code, p.Message = int32(s.Code), s.Message
	return status.FromProto(p)
}

// codeOf returns the code of an error without a status.
func codeOf(err error) stream.Code {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return stream.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return stream.Canceled
	default:
		return stream.Unknown
	}
}

// DetailsOf returns the bytes of a status if there are details in it, nil otherwise.
func DetailsOf(st *spb.Status) []byte {
	if len(st.GetDetails()) == 0 {
		return nil
	}
	b, err := proto.Marshal(st)
	if err != nil {
		return nil // code and message do without
	}
	return b
}
