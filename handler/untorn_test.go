package handler

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// halting hands out backends that halt inside a message.
type halting struct {
	Backends
	goOn <-chan struct{}
}

func (h halting) Open(ctx context.Context, cluster, instance string, req *stream.Request) (stream.Outbound, error) {
	out, err := h.Backends.Open(ctx, cluster, instance, req)
	if err != nil {
		return nil, err
	}
	return &halted{abortable: out.(*abortable), goOn: h.goOn}, nil
}

// halted halts before the rest of a message that is longer than a piece.
type halted struct {
	*abortable
	goOn  <-chan struct{}
	reads int
}

func (h *halted) Read(p []byte) error {
	if h.reads++; h.reads == 3 { // after the prefix and the first piece
		select {
		case <-h.goOn:
		case <-h.aborts:
			return &stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled, Message: "aborted"}
		}
	}
	return h.abortable.Read(p)
}

// A filter of the request may end a call while the client has a part of a message: it
// gets the rest first, and would take anything else for that.
func TestFiltersOfTheRequestTearNoMessage(t *testing.T) {
	long := texts(strings.Repeat("x", 2*pieceSize))
	answer := method(chat).Answer(&echo.EchoReply{Message: "answer"})
	reject := filter.Reject(codes.Aborted, "no")
	for name, test := range map[string]struct {
		verdict filter.Verdict
		out     []byte // of the backend
		want    []byte
		code    stream.Code
		reason  stream.Reason
	}{
		"answer":                          {answer, slices.Concat(long, texts("more")), slices.Concat(long, texts("answer")), stream.OK, ""},
		"reject":                          {reject, slices.Concat(long, texts("more")), long, stream.Code(codes.Aborted), stream.Rejected},
		"answer, and the backend ends":    {answer, long, slices.Concat(long, texts("answer")), stream.OK, ""},
		"answer, and the backend is lost": {answer, long[:len(long)-1], long[:2*pieceSize], stream.Internal, stream.BackendProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				decide, goOn := make(chan struct{}), make(chan struct{})
				c := filteredCall{
					t: t, method: chat, in: texts("a"), out: test.out,
					filters: []*filter.Filter{method(chat).OnRequest(func(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict {
						<-decide
						return test.verdict
					})},
				}
				serve := c.start()
				c.handler.opts.Backends = halting{c.handler.opts.Backends, goOn}
				go serve() // ends before synctest.Test does
				synctest.Wait()
				require.Equal(t, pieceSize, len(c.client.got), "the client has a part of the message")
				close(decide)
				synctest.Wait()
				require.Nil(t, c.client.end, "the call goes on until the client has the rest")
				close(goOn)
				synctest.Wait()
				require.NotNil(t, c.client.end)
				require.Equal(t, test.code, c.client.end.Status.Code)
				require.Equal(t, string(test.reason), c.client.end.Metadata.Get(stream.ReasonKey))
				require.True(t, bytes.Equal(test.want, c.client.got), "what the client got")
			})
		})
	}
}
