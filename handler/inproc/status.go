package inproc

import (
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// statusOf returns the error of a call that has ended with t, nil for OK. Details
// that are none, or of another code, are left out.
func statusOf(t *stream.Trailer) error {
	code := codes.Code(t.Status.Code)
	if t.Reset != nil {
		code = codes.Code(stream.CodeOfReset(*t.Reset))
	}
	if code == codes.OK {
		return nil
	}
	message := strings.ToValidUTF8(t.Status.Message, "\uFFFD") // what has to be in JSON and protobuf
	var st spb.Status
	if t.Status.Details == nil || proto.Unmarshal(t.Status.Details, &st) != nil || codes.Code(st.Code) != code {
		return status.Error(code, message)
	}
	st.Message = message
	return status.ErrorProto(&st)
}
