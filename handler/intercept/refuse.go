package intercept

import (
	"fmt"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Refuse returns the error of a link that ends a call: the client gets code, message
// and details, and reason in the trailer "x-kitexproxy-error".
func Refuse(reason stream.Reason, code stream.Code, message string, details ...proto.Message) error {
	f := &stream.Failure{Reason: reason, Code: code, Message: message}
	if len(details) == 0 {
		return f
	}
	st := &spb.Status{Code: int32(code), Message: message}
	for _, d := range details {
		packed, err := anypb.New(d)
		if err != nil {
			return fmt.Errorf("details of a status: %w", err)
		}
		st.Details = append(st.Details, packed)
	}
	encoded, err := proto.Marshal(st)
	if err != nil {
		return fmt.Errorf("details of a status: %w", err)
	}
	f.Details = encoded
	return f
}
