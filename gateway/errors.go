package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// handleError answers with an error. It is the ErrorHandlerFunc unless Options.Mux has
// another one.
func (g *Gateway) handleError(
	ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, req *http.Request, err error,
) {
	var chosen *runtime.HTTPStatusError
	if errors.As(err, &chosen) {
		err = chosen.Err
	}
	st := presentable(m, err)
	err = st.Err()
	switch code := g.opts.CodeStatus[st.Code()]; {
	case g.opts.Envelope != nil && g.opts.Envelope.AlwaysOK:
		err = &runtime.HTTPStatusError{HTTPStatus: http.StatusOK, Err: err}
	case chosen != nil:
		err = &runtime.HTTPStatusError{HTTPStatus: chosen.HTTPStatus, Err: err}
	case code != 0:
		err = &runtime.HTTPStatusError{HTTPStatus: code, Err: err}
	}
	runtime.DefaultHTTPErrorHandler(ctx, mux, m, w, req, err)
}

// presentable returns the status of an error in a form that there is JSON for: details
// of types that nobody knows must not hide what has gone wrong.
func presentable(m runtime.Marshaler, err error) *status.Status {
	st := status.Convert(err).Proto()
	if st.GetCode() == int32(codes.OK) { // an error that says there is none
		st.Code = int32(codes.Unknown)
	}
	st.Message = strings.ToValidUTF8(st.GetMessage(), "\uFFFD")
	st.Details = slices.DeleteFunc(st.Details, func(d *anypb.Any) bool {
		_, err := m.Marshal(d)
		return err != nil
	})
	return status.FromProto(st)
}

// streamError returns the StreamErrorHandlerFunc unless Options.Mux has another one.
func streamError(c *codec) runtime.StreamErrorHandlerFunc {
	return func(_ context.Context, err error) *status.Status { return presentable(c, err) }
}

// invalid is the error of a request that says what it cannot say.
func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}
