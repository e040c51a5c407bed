// Package metadata is the custom metadata of calls as those see and change it who
// are asked about calls: filters and interceptors.
package metadata

import (
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Metadata is the custom metadata of one side of a call. Keys are compared
// without regard to case. Values of keys that end in "-bin" are bytes, base64
// being the transport's business; what is left alone crosses as it came.
//
// It may be changed until it is sealed, which is when it is sent. It is for one
// goroutine at a time. The zero value is empty, and may be changed.
type Metadata struct {
	fields stream.Metadata
	sent   atomic.Bool
}

// ReadOnly returns fields as metadata that cannot be changed.
func ReadOnly(fields stream.Metadata) *Metadata {
	m := &Metadata{fields: fields}
	m.Seal()
	return m
}

// Begin has m be fields, which are m's from then on, and not sealed. It is for whoever
// carries the call, as Seal and Fields are.
func (m *Metadata) Begin(fields stream.Metadata) {
	m.fields = fields
	m.sent.Store(false)
}

// Seal has m not be changed any more. It may be called from any goroutine.
func (m *Metadata) Seal() { m.sent.Store(true) }

// IsSealed reports whether m cannot be changed any more.
func (m *Metadata) IsSealed() bool { return m.sent.Load() }

// Fields returns the metadata as it crosses the wire. It is read-only.
func (m *Metadata) Fields() stream.Metadata { return m.fields }

// ErrSent is what changing metadata fails with that is on its way already.
var ErrSent = errors.New("the metadata has been sent already")

// Get returns the first value of key, "" when there is none.
func (m *Metadata) Get(key string) string {
	for v := range m.values(key) {
		return v
	}
	return ""
}

// Values returns all values of key in order, nil when there are none.
func (m *Metadata) Values(key string) []string {
	return slices.Collect(m.values(key))
}

// All ranges over all keys, in lower case, and values in order.
func (m *Metadata) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, f := range m.fields {
			if !yield(f.Key, decoded(f)) {
				return
			}
		}
	}
}

func (m *Metadata) values(key string) iter.Seq[string] {
	key = strings.ToLower(key)
	return func(yield func(string) bool) {
		for _, f := range m.fields {
			if f.Key == key && !yield(decoded(f)) {
				return
			}
		}
	}
}

// Set makes values the only ones of key. The error is ErrSent, or names a key
// or value that metadata cannot have; nothing is changed then.
func (m *Metadata) Set(key string, values ...string) error {
	more, err := m.encoded(key, values)
	if err != nil {
		return err
	}
	m.remove(key)
	m.fields = append(m.fields, more...)
	return nil
}

// Add adds values to those of key; see Set.
func (m *Metadata) Add(key string, values ...string) error {
	more, err := m.encoded(key, values)
	if err != nil {
		return err
	}
	m.fields = append(m.fields, more...)
	return nil
}

// Remove removes all values of key. The error is ErrSent.
func (m *Metadata) Remove(key string) error {
	if m.sent.Load() {
		return ErrSent
	}
	m.remove(key)
	return nil
}

func (m *Metadata) remove(key string) {
	key = strings.ToLower(key)
	m.fields = slices.DeleteFunc(m.fields, func(f stream.Field) bool { return f.Key == key })
}

// encoded returns the fields of key as they cross the wire.
func (m *Metadata) encoded(key string, values []string) (stream.Metadata, error) {
	if m.sent.Load() {
		return nil, ErrSent
	}
	key = strings.ToLower(key)
	if err := checkKey(key); err != nil {
		return nil, err
	}
	fields := make(stream.Metadata, 0, len(values))
	for _, v := range values {
		switch {
		case strings.HasSuffix(key, "-bin"):
			v = base64.RawStdEncoding.EncodeToString([]byte(v))
		case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }):
			return nil, fmt.Errorf("metadata %q: value %q has characters that are not printable ASCII; use a key that ends in -bin", key, v)
		}
		fields = append(fields, stream.Field{Key: key, Value: v})
	}
	return fields, nil
}

// checkKey accepts the keys of custom metadata: those that
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md allows and
// HTTP/2 (RFC 9113 section 8.2.2) and gRPC do not use themselves.
func checkKey(key string) error {
	switch key {
	case "content-type", "content-length", "te", "connection", "keep-alive", "proxy-connection", "transfer-encoding",
		"upgrade", "host", stream.ReasonKey:
		return fmt.Errorf("metadata %q is the protocol's, and not to be changed", key)
	case "grpc-trace-bin", "grpc-tags-bin", "grpc-previous-rpc-attempts", "grpc-retry-pushback-ms":
		return nil // which are passed on as metadata
	}
	if strings.HasPrefix(key, "grpc-") {
		return fmt.Errorf("metadata %q is the protocol's, and not to be changed", key)
	}
	if !httpguts.ValidHeaderFieldName(key) || strings.ContainsAny(key, "!#$%&'*+^`|~") {
		return fmt.Errorf("%q is no key for metadata; use letters, digits, \"-\", \"_\" and \".\"", key)
	}
	return nil
}

// decoded returns a field's value as it is seen. What is no base64 is left
// as it is.
func decoded(f stream.Field) string {
	if !strings.HasSuffix(f.Key, "-bin") {
		return f.Value
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(f.Value, "="))
	if err != nil {
		return f.Value
	}
	return string(b)
}
