package proxy

import (
	"context"
	"errors"
	"strconv"

	"github.com/cloudwego/kitex/pkg/kerrors"
	kitexstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/utils"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// endOf says how the call ends that a director has returned err for.
func endOf(err error) *stream.Trailer {
	t := &stream.Trailer{
		Status:   stream.Status{Code: codeOf(err), Message: err.Error()},
		Metadata: stream.Metadata{{Key: stream.ReasonKey, Value: string(stream.Rejected)}},
	}
	if st := statusOf(err); st != nil && st.GetCode() != 0 { // an error is not OK, whatever it says
		t.Status.Code, t.Status.Message = stream.Code(st.GetCode()), st.GetMessage()
		t.Status.Details = detailsOf(st)
	}
	if biz, ok := kerrors.FromBizStatusError(err); ok {
		t.Metadata = append(t.Metadata, bizFields(biz)...)
	}
	return t
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

// statusOf returns the status that an error has, nil for none. The message of one
// that is wrapped is the whole text, as in grpc-go.
func statusOf(err error) *spb.Status {
	if st, ok := status.FromError(err); ok {
		return st.Proto()
	}
	var kitex kitexstatus.Iface
	if errors.As(err, &kitex) && kitex.GRPCStatus() != nil {
		st := kitex.GRPCStatus().Proto()
		if direct, ok := err.(kitexstatus.Iface); !ok || direct != kitex {
			st.Message = err.Error()
		}
		return st
	}
	if biz, ok := kerrors.FromBizStatusError(err); ok {
		return &spb.Status{Code: int32(stream.Internal), Message: biz.BizMessage()} // as Kitex's servers do
	}
	return nil
}

// detailsOf returns the bytes of a status if there are details in it.
func detailsOf(st *spb.Status) []byte {
	if len(st.GetDetails()) == 0 {
		return nil
	}
	b, err := proto.Marshal(st)
	if err != nil {
		return nil // code and message do without
	}
	return b
}

// bizFields are the trailers in which Kitex's servers send a business status.
func bizFields(biz kerrors.BizStatusErrorIface) stream.Metadata {
	fields := stream.Metadata{{Key: "biz-status", Value: strconv.Itoa(int(biz.BizStatusCode()))}}
	if len(biz.BizExtra()) > 0 {
		extra, _ := utils.Map2JSONStr(biz.BizExtra()) // strings always have a form in JSON
		fields = append(fields, stream.Field{Key: "biz-extra", Value: extra})
	}
	return fields
}
