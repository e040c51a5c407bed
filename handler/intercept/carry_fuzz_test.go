package intercept

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// decision is what a link of FuzzCarry does, by the lowest bits of a byte.
type decision byte

const (
	passes    decision = iota
	stops              // without calling next
	replaces           // the end by a status of its own
	forgives           // whatever it was
	panics             // before next
	panicsNow          // after it
	guards             // and lets the call go on
	refuses            // as a guard
	decisions
)

// model is what is expected of a call.
type model struct {
	entered []int       // the links
	code    stream.Code // how it ends
	carried bool
}

// expected says what becomes of a call that goes through links: the plain recursion that
// interceptors are.
func expected(links []decision, at int, end stream.Code, m *model) stream.Code {
	if at == len(links) {
		m.carried = true
		return end
	}
	m.entered = append(m.entered, at)
	switch links[at] {
	case stops, refuses:
		return codeOfLink(at)
	case panics:
		return stream.Internal
	}
	end = expected(links, at+1, end, m)
	switch links[at] {
	case replaces:
		return codeOfLink(at)
	case forgives:
		return stream.OK
	case panicsNow:
		return stream.Internal
	}
	return end
}

// codeOfLink is one that a link, and nobody else, ends calls with.
func codeOfLink(at int) stream.Code { return stream.Code(100 + at) }

var errOfLink = func(at int) error { return status.Error(codes.Code(codeOfLink(at)), "by a link") }

// link does as d says, in another goroutine if that is asked for, and notes that it does.
func link(d decision, at int, elsewhere bool, note func(int)) Link {
	name := fmt.Sprint(at)
	if d == guards || d == refuses {
		return Link{Name: name, Guard: func(*Call) error {
			if note(at); d == refuses {
				return errOfLink(at)
			}
			return nil
		}}
	}
	return Link{Name: name, Interceptor: func(ctx context.Context, c *Call, next Next) error {
		note(at)
		switch d {
		case stops:
			return errOfLink(at)
		case panics:
			panic("on purpose")
		}
		if elsewhere {
			direct := next
			next = func(ctx context.Context) error {
				result := make(chan error)
				go func() { result <- direct(ctx) }() // ends with it
				return <-result
			}
		}
		err := next(ctx)
		switch d {
		case replaces:
			return errOfLink(at)
		case forgives:
			return nil
		case panicsNow:
			panic(errors.New("on purpose"))
		}
		return err
	}}
}

// FuzzCarry has calls go through any links, on one level or two, and compares with what
// is simply to be expected of them. Each byte is a link.
func FuzzCarry(f *testing.F) {
	f.Add([]byte{}, uint8(0), uint8(0))
	f.Add([]byte{byte(passes), byte(guards), byte(replaces), byte(forgives)}, uint8(2), uint8(15))
	f.Add([]byte{byte(forgives), byte(passes) + 16, byte(stops)}, uint8(1), uint8(0))
	f.Add([]byte{byte(replaces), byte(panics), byte(passes)}, uint8(0), uint8(5))
	f.Add([]byte{byte(passes) + 16, byte(panicsNow), byte(guards), byte(refuses)}, uint8(3), uint8(5))
	f.Fuzz(func(t *testing.T, script []byte, split, end uint8) {
		script = script[:min(len(script), 20)]
		var got model
		made, asked := make([]Link, len(script)), make([]decision, len(script))
		for i, b := range script {
			asked[i] = decision(b) % decisions
			made[i] = link(asked[i], i, b&16 != 0, func(at int) { got.entered = append(got.entered, at) })
		}
		backend := &stream.Trailer{Status: stream.Status{Code: stream.Code(end % 17)}, Metadata: ok().Metadata}
		in, r := newClient(t), &recorder{}
		c := begin(in, r)
		outer := min(int(split), len(made))
		Carry(Watch(in, c), c, made[:outer], func(in stream.Inbound) {
			Carry(in, c, made[outer:], func(in stream.Inbound) {
				got.carried = true
				in.Finish(backend)
			})
		})

		var want model
		want.code = expected(asked, 0, backend.Status.Code, &want)
		got.code = in.ended(t).Status.Code
		require.Equal(t, want, got)
		require.Equal(t, []string{"begin", "end " + want.code.String()}, r.all())
		if want.carried {
			require.Equal(t, "backend", in.end.Metadata.Get("from"), "trailers are kept, whatever the status")
		}
	})
}
