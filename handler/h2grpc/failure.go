package h2grpc

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// CheckResponse returns why the head of a response is not gRPC's, nil if it is.
// last is END_STREAM: a response that is trailers only.
func CheckResponse(fields []hpack.HeaderField, last bool, cluster, address string) *stream.Failure {
	status, kind := "", ""
	for i := range fields {
		switch fields[i].Name {
		case ":status":
			status = fields[i].Value
		case contentType:
			kind = fields[i].Value
		}
	}
	problem := ""
	if last {
		problem = checkStatus(fields)
	}
	switch {
	case last && problem == "" && isGRPC(kind):
		return nil
	case status != "200":
		return ProtocolFailure(codeOfHTTP(status), "HTTP status "+status+" instead of a gRPC response", cluster, address)
	case !isGRPC(kind):
		return ProtocolFailure(stream.Unknown, "content-type "+strconv.Quote(kind)+" instead of a gRPC response", cluster, address)
	case problem != "":
		return ProtocolFailure(stream.Unknown, problem, cluster, address)
	}
	return nil
}

// CheckTrailers returns why trailers do not end a gRPC call, nil if they do.
func CheckTrailers(fields []hpack.HeaderField, cluster, address string) *stream.Failure {
	if problem := checkStatus(fields); problem != "" {
		return ProtocolFailure(stream.Unknown, problem, cluster, address)
	}
	return nil
}

// IsOK reports whether trailers that have been checked say OK.
func IsOK(fields []hpack.HeaderField) bool {
	for i := range fields {
		if fields[i].Name == grpcStatus {
			return strings.Trim(fields[i].Value, "0") == ""
		}
	}
	return false
}

// CodeOf returns the status code of trailers that have been checked.
func CodeOf(fields []hpack.HeaderField) stream.Code {
	for i := range fields {
		if fields[i].Name == grpcStatus {
			n, _ := strconv.ParseUint(fields[i].Value, 10, 32) // checked
			return stream.Code(n)
		}
	}
	return stream.Unknown
}

// checkStatus says what is wrong with the status of trailers, "" for nothing.
func checkStatus(fields []hpack.HeaderField) string {
	found := false
	for i := range fields {
		if fields[i].Name != grpcStatus {
			continue
		}
		if found {
			return "the response has two grpc-status"
		}
		found = true
		if _, err := strconv.ParseUint(fields[i].Value, 10, 32); err != nil {
			return "grpc-status " + strconv.Quote(fields[i].Value) + " is not a status code"
		}
	}
	if !found {
		return "the response has no grpc-status"
	}
	return ""
}

// FailureOf says what it means for a call that its backend's stream was closed
// with err: a *h2.ResetError or a *h2.LostError.
func FailureOf(err error, cluster, address string) *stream.Failure {
	var reset *h2.ResetError
	var lost *h2.LostError
	f := &stream.Failure{Reason: stream.BackendDisconnected, Code: stream.Unavailable}
	switch {
	case errors.As(err, &reset) && reset.Reason != "":
		return ProtocolFailure(stream.Internal, reset.Reason, cluster, address)
	case errors.As(err, &reset) && reset.Code == http2.ErrCodeRefusedStream:
		f.Reason, f.Unprocessed = stream.BackendRefused, true
	case errors.As(err, &reset):
		code := uint32(reset.Code)
		f.Reason, f.Code, f.Reset = stream.BackendReset, stream.CodeOfReset(code), &code
	case errors.As(err, &lost) && lost.Unprocessed:
		f.Reason, f.Unprocessed = stream.BackendRefused, true
	}
	f.Message = fmt.Sprintf("cluster %q: instance %s: %v", cluster, address, err)
	return f
}

// ProtocolFailure is the end of a call whose backend has sent what is not gRPC.
func ProtocolFailure(code stream.Code, problem, cluster, address string) *stream.Failure {
	return &stream.Failure{
		Reason: stream.BackendProtocol, Code: code,
		Message: fmt.Sprintf("cluster %q: instance %s: %s", cluster, address, problem),
	}
}

// codeOfHTTP maps HTTP statuses as
// https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md does.
func codeOfHTTP(status string) stream.Code {
	code, _ := strconv.Atoi(status)
	switch code {
	case http.StatusBadRequest:
		return stream.Internal
	case http.StatusUnauthorized:
		return stream.Unauthenticated
	case http.StatusForbidden:
		return stream.PermissionDenied
	case http.StatusNotFound:
		return stream.Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return stream.Unavailable
	default:
		return stream.Unknown
	}
}
