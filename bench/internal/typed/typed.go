// Package typed is kitexproxy with filters, as a program that embeds it: what decoding messages costs on top of
// relaying them.
package typed

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/prutal"

	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/cli"
)

// Message is as kitex generates it for a message with one bytes field.
type Message struct {
	Payload []byte `protobuf:"bytes,1,opt,name=payload"`
}

// Marshal appends the encoded message.
func (m *Message) Marshal(b []byte) ([]byte, error) { return prutal.MarshalAppend(b, m) }

// Unmarshal decodes the message.
func (m *Message) Unmarshal(b []byte) error { return prutal.Unmarshal(b, m) }

// StreamRequest is as kitex generates it for wire.StreamRequest.
type StreamRequest struct {
	Count int32 `protobuf:"varint,1,opt,name=count"`
	Size  int32 `protobuf:"varint,2,opt,name=size"`
}

// Marshal appends the encoded message.
func (m *StreamRequest) Marshal(b []byte) ([]byte, error) { return prutal.MarshalAppend(b, m) }

// Unmarshal decodes the message.
func (m *StreamRequest) Unmarshal(b []byte) error { return prutal.Unmarshal(b, m) }

// What kitex generates around them.
type (
	args       struct{ Req *Message }
	result     struct{ Success *Message }
	streamArgs struct{ Req *StreamRequest }
)

func service() *filter.Service {
	method := func(newArgs func() any, mode serviceinfo.StreamingMode) serviceinfo.MethodInfo {
		return serviceinfo.NewMethodInfo(nil, newArgs, func() any { return new(result) }, false, serviceinfo.WithStreamingMode(mode))
	}
	return filter.KitexService(&serviceinfo.ServiceInfo{
		ServiceName:  "Bench",
		PayloadCodec: serviceinfo.Protobuf,
		Extra:        map[string]any{"PackageName": "bench"},
		Methods: map[string]serviceinfo.MethodInfo{
			"Unary":  method(func() any { return new(args) }, serviceinfo.StreamingUnary),
			"Chat":   method(func() any { return new(args) }, serviceinfo.StreamingBidirectional),
			"Stream": method(func() any { return new(streamArgs) }, serviceinfo.StreamingServer),
		},
	})
}

// The kinds of filters.
var kinds = map[string]filter.Verdict{
	"read":   filter.Forward, // look at a field of every message
	"change": filter.Changed, // and have it encoded again
}

// Serve runs the proxy until SIGTERM. kind is what its filters do with every message in both directions.
func Serve(listen, backend, kind string) error {
	verdict, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("no kind of filter %q; there are read and change", kind)
	}
	cli.TuneProcess() // as the proxy's own main does
	cfg, err := conf.Simple(listen, backend)
	if err != nil {
		return err
	}
	cfg.Default.Mode = conf.ModeStruct
	cfg.Default.MessageLimit = wire.MaxMessage
	p, err := proxy.New(cfg, proxy.WithServices(service()), proxy.WithFilters(filters(verdict)...))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return p.Run(ctx)
}

// filters look at every message of every method.
func filters(verdict filter.Verdict) []*filter.Filter {
	look := func(_ context.Context, _ *filter.Call, m *Message) filter.Verdict {
		if bytes.HasPrefix(m.Payload, []byte("a prefix that no payload has")) {
			return filter.Drop
		}
		return verdict
	}
	unary := filter.For[Message, Message](wire.Unary)
	chat := filter.For[Message, Message](wire.Chat)
	stream := filter.For[StreamRequest, Message](wire.Stream)
	return []*filter.Filter{
		unary.OnRequest(look), unary.OnResponse(look),
		chat.OnRequest(look), chat.OnResponse(look),
		stream.OnResponse(look),
	}
}
