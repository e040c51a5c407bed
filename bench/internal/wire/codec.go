// Package wire holds what the loader, the backend and the runner have to agree on: method names, message bytes and the
// codec that leaves them alone.
package wire

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// The three methods of the backend.
const (
	Unary  = "/bench.Bench/Unary"  // answers with the request
	Chat   = "/bench.Bench/Chat"   // answers each message with itself
	Stream = "/bench.Bench/Stream" // answers one StreamRequest with the messages it asks for
)

// MaxMessage is the message size limit of every gRPC end in this module. grpc-go's default of 4 MiB would refuse the
// 4 MiB scenario's messages at nothing but a rounding.
const MaxMessage = 64 << 20

// Raw is an outgoing message: it goes out as it is, uncopied. The transport may still read it until the answer has come.
type Raw []byte

// Message is an incoming message. The receiver owns Data: it frees it, or sends the Message, which passes it on.
type Message struct {
	Data mem.BufferSlice
}

// Free gives the message's buffers back to grpc-go's pool.
func (m *Message) Free() {
	m.Data.Free()
	m.Data = nil
}

// Codec moves Raw and *Message without encoding anything, so that backend and loader cost little beside the proxy.
// It calls itself "proto" because that name goes into the content-type: proxies see what real traffic looks like.
type Codec struct{}

// Marshal hands the message's bytes to grpc-go, which frees them.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case Raw:
		return mem.BufferSlice{mem.SliceBuffer(m)}, nil
	case *Message:
		data := m.Data
		m.Data = nil
		return data, nil
	}
	return nil, fmt.Errorf("wire codec: cannot send a %T", v)
}

// Unmarshal keeps a reference to the received bytes in v, a *Message.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*Message)
	if !ok {
		return fmt.Errorf("wire codec: cannot receive into a %T", v)
	}
	data.Ref()
	m.Data = data
	return nil
}

// Name makes the content-type application/grpc+proto.
func (Codec) Name() string { return "proto" }
