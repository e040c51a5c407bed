package filter

import (
	"fmt"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Verdict is what a filter decides. It is a value: the With methods return
// another one.
type Verdict struct {
	action action
	// before and after are messages put around the one decided on.
	before, after []any
	inserts       Direction // which direction those belong to, 0 for none
	// answer is the whole response of the call, for answer.
	answer   []any
	status   stream.Status
	header   stream.Metadata
	trailer  stream.Metadata
	mistaken error // what the filter got wrong about the verdict
}

type action uint8

const (
	forward action = iota
	changed
	drop
	answer
	reject
)

// What a filter may decide about a message. The start of a call and its
// response headers can be passed on only: Forward.
var (
	// Forward sends the message on as it came, byte for byte. A filter that
	// has changed the struct must not say so: the filters behind it see what
	// the struct holds, and that is what goes out once one of them, or one
	// before, has said Changed.
	Forward = Verdict{action: forward}
	// Changed sends on what the struct holds now.
	Changed = Verdict{action: changed}
	// Drop sends nothing. In a stream the message just never arrives; a call
	// that is left without the one message it must have ends with INTERNAL.
	Drop = Verdict{action: drop}
)

// Reject ends the call with a status. Messages that have gone before still
// arrive before it.
func Reject(code codes.Code, format string, args ...any) Verdict {
	return Verdict{action: reject, status: stream.Status{Code: stream.Code(code), Message: fmt.Sprintf(format, args...)}}
}

// Fail ends the call with INTERNAL, as for a filter that panicked: it could not
// decide. The client is told err, and operators see filter-failed.
func Fail(err error) Verdict { return Verdict{mistaken: err} }

// WithDetails adds details to the status of a rejection.
func (v Verdict) WithDetails(details ...proto.Message) Verdict {
	s := &status.Status{Code: int32(v.status.Code), Message: v.status.Message}
	if err := proto.Unmarshal(v.status.Details, s); err != nil {
		return v.mistake(err)
	}
	s.Code, s.Message = int32(v.status.Code), v.status.Message
	for _, d := range details {
		packed, err := anypb.New(d)
		if err != nil {
			return v.mistake(fmt.Errorf("details of type %T: %w", d, err))
		}
		s.Details = append(s.Details, packed)
	}
	b, err := proto.Marshal(s)
	if err != nil {
		return v.mistake(fmt.Errorf("details: %w", err))
	}
	v.status.Details = b
	return v
}

// WithHeader adds response headers to an answer or a rejection. A call whose
// headers have gone to the client already goes without.
func (v Verdict) WithHeader(key string, values ...string) Verdict {
	var err error
	if v.header, err = appended(v.header, key, values); err != nil {
		return v.mistake(err)
	}
	return v
}

// WithTrailer adds trailers to an answer or a rejection.
func (v Verdict) WithTrailer(key string, values ...string) Verdict {
	var err error
	if v.trailer, err = appended(v.trailer, key, values); err != nil {
		return v.mistake(err)
	}
	return v
}

// misfit reports whether v has got something that its kind does not take.
func (v *Verdict) misfit() bool {
	ends := v.action == answer || v.action == reject
	return !ends && len(v.header)+len(v.trailer) > 0 || v.action != reject && v.status.Details != nil
}

// appended returns fields and more, in memory of its own.
func appended(fields stream.Metadata, key string, values []string) (stream.Metadata, error) {
	var m Metadata
	m.Begin(slices.Clone(fields))
	err := m.Add(key, values...)
	return m.Fields(), err
}

func (v Verdict) mistake(err error) Verdict {
	if v.mistaken == nil {
		v.mistaken = err
	}
	return v
}
