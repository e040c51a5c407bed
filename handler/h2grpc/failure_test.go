package h2grpc

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestFailureOf(t *testing.T) {
	for name, test := range map[string]struct {
		err         error
		reason      stream.Reason
		code        stream.Code
		unprocessed bool
		reset       bool
	}{
		"refused":      {&h2.ResetError{Code: http2.ErrCodeRefusedStream}, stream.BackendRefused, stream.Unavailable, true, false},
		"GOAWAY":       {&h2.LostError{Unprocessed: true}, stream.BackendRefused, stream.Unavailable, true, false},
		"lost":         {&h2.LostError{Cause: errors.New("x")}, stream.BackendDisconnected, stream.Unavailable, false, false},
		"cancelled":    {&h2.ResetError{Code: http2.ErrCodeCancel}, stream.BackendReset, stream.Canceled, false, true},
		"calm":         {&h2.ResetError{Code: http2.ErrCodeEnhanceYourCalm}, stream.BackendReset, stream.ResourceExhausted, false, true},
		"insecure":     {&h2.ResetError{Code: http2.ErrCodeInadequateSecurity}, stream.BackendReset, stream.PermissionDenied, false, true},
		"no error":     {&h2.ResetError{Code: http2.ErrCodeNo}, stream.BackendReset, stream.Internal, false, true},
		"unknown code": {&h2.ResetError{Code: 0xface}, stream.BackendReset, stream.Internal, false, true},
		"our reset":    {&h2.ResetError{Code: http2.ErrCodeRefusedStream, Reason: "why"}, stream.BackendProtocol, stream.Internal, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := FailureOf(test.err, "c", "address")
			require.Equal(t, test.reason, f.Reason)
			require.Equal(t, test.code, f.Code)
			require.Equal(t, test.unprocessed, f.Unprocessed)
			require.Equal(t, test.reset, f.Reset != nil)
			require.Contains(t, f.Message, `cluster "c": instance address: `)
		})
	}
}

func TestCheckResponse(t *testing.T) {
	grpc := func(status string, more ...string) []hpack.HeaderField {
		return fields(append([]string{":status", status, "content-type", "application/grpc"}, more...)...)
	}
	for name, test := range map[string]struct {
		fields  []hpack.HeaderField
		last    bool
		code    stream.Code // with problem
		problem string
	}{
		"head":                     {fields: grpc("200")},
		"trailers only":            {fields: grpc("200", "grpc-status", "5"), last: true},
		"trailers only with a 404": {fields: grpc("404", "grpc-status", "5"), last: true},
		"404":                      {fields(":status", "404"), true, stream.Unimplemented, "HTTP status 404"},
		"502 of gRPC":              {grpc("502"), false, stream.Unavailable, "HTTP status 502"},
		"401":                      {grpc("401"), true, stream.Unauthenticated, "HTTP status 401"},
		"403":                      {grpc("403"), false, stream.PermissionDenied, "HTTP status 403"},
		"400":                      {grpc("400"), false, stream.Internal, "HTTP status 400"},
		"500":                      {grpc("500"), false, stream.Unknown, "HTTP status 500"},
		"HTML":                     {fields(":status", "200", "content-type", "text/html"), false, stream.Unknown, `content-type "text/html"`},
		"no status":                {grpc("200"), true, stream.Unknown, "no grpc-status"},
		"status twice":             {grpc("200", "grpc-status", "0", "grpc-status", "0"), true, stream.Unknown, "two grpc-status"},
		"status too large":         {grpc("200", "grpc-status", "4294967296"), true, stream.Unknown, "is not a status code"},
		"status negative":          {grpc("200", "grpc-status", "-1"), true, stream.Unknown, "is not a status code"},
		"status empty":             {grpc("200", "grpc-status", ""), true, stream.Unknown, "is not a status code"},
	} {
		t.Run(name, func(t *testing.T) {
			f := CheckResponse(test.fields, test.last, "c", "address")
			if test.problem == "" {
				require.Nil(t, f)
				return
			}
			require.Equal(t, stream.BackendProtocol, f.Reason)
			require.Equal(t, test.code, f.Code)
			require.Contains(t, f.Message, test.problem)
		})
	}
}

func TestIsOK(t *testing.T) {
	for status, want := range map[string]bool{"0": true, "00": true, "1": false, "10": false} {
		require.Equal(t, want, IsOK(fields("a", "1", "grpc-status", status)))
	}
	require.False(t, IsOK(fields("a", "1")))
}
