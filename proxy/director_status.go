package proxy

import (
	"errors"
	"strconv"

	"github.com/cloudwego/kitex/pkg/kerrors"
	kitexstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/utils"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// endOf says how the call ends that a director or an interceptor has ended with err,
// which may have a status of Kitex's.
func endOf(err error) *stream.Trailer {
	t := intercept.TrailerOf(err)
	var kitex kitexstatus.Iface
	biz, isBiz := kerrors.FromBizStatusError(err)
	switch _, grpc := status.FromError(err); {
	case grpc:
	case errors.As(err, &kitex) && kitex.GRPCStatus() != nil:
		st := kitex.GRPCStatus().Proto()
		if st.GetCode() == 0 {
			break // an error is not OK, whatever it says
		}
		t.Status.Code, t.Status.Message = stream.Code(st.GetCode()), st.GetMessage()
		if direct, ok := err.(kitexstatus.Iface); !ok || direct != kitex {
			t.Status.Message = err.Error() // of one that is wrapped, as in grpc-go
			st.Message = err.Error()
		}
		t.Status.Details = intercept.DetailsOf(st)
	case isBiz:
		t.Status.Code, t.Status.Message = stream.Internal, biz.BizMessage() // as Kitex's servers do
	}
	if isBiz {
		t.Metadata = append(t.Metadata, bizFields(biz)...)
	}
	return t
}

// inGRPC returns the error of a link so that package intercept knows its status, which
// may be Kitex's.
func inGRPC(err error) error {
	var kitex kitexstatus.Iface
	_, isBiz := kerrors.FromBizStatusError(err)
	if err == nil || !isBiz && !errors.As(err, &kitex) {
		return err
	}
	if _, grpc := status.FromError(err); grpc && !isBiz {
		return err
	}
	return intercept.EndWith(endOf(err))
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
