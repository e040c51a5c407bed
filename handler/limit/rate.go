package limit

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Rate says how many calls, and messages of clients, there may be in a time. One of
// Calls and Messages at least is set.
type Rate struct {
	// Calls is how many calls may begin within Per; 0 for any number.
	Calls int
	// Messages is how many messages clients may send within Per, in all their calls; 0
	// for any number. The first one beyond ends its call.
	Messages int
	// Per is that time; 0 for a second.
	Per time.Duration
	// Burst is how many may come at once after a pause; 0 for as many as within Per.
	Burst int
	// Key says which calls share a limit: All (also ""), Identity, Peer, Method, or
	// Metadata with a key behind it.
	Key string
	// Keys is how many limits there are at most, with one more for the keys that find no
	// room; 0 for 10000. See the package's documentation.
	Keys int
}

// NewRate returns the guard that keeps to a rate. Calls and messages beyond it end with
// RESOURCE_EXHAUSTED, and google.rpc.RetryInfo says when the next may come. An error
// names the option that cannot be used.
func NewRate(o Rate) (intercept.Guard, error) {
	r, err := newRate(o)
	if err != nil {
		return nil, err
	}
	return r.guard, nil
}

type rate struct {
	calls, messages *allowance // nil for any number
	keyOf           keyFunc    // nil if all share one
	all             counts
	table           *table
	epoch           time.Time
}

// allowance is so many of something in a time.
type allowance struct {
	pace
	text string
}

func newRate(o Rate) (*rate, error) {
	if o.Per == 0 {
		o.Per = time.Second
	}
	switch {
	case o.Calls < 0 || o.Messages < 0 || o.Burst < 0 || o.Per < 0 || o.Keys < 0:
		return nil, errors.New("a number below 0 is no limit; write 0 for the default")
	case o.Calls == 0 && o.Messages == 0:
		return nil, errors.New("nothing is limited; set calls or messages")
	}
	keyOf, description, err := parseKey(o.Key)
	if err != nil {
		return nil, err
	}
	r := &rate{keyOf: keyOf, table: newTable(cmp.Or(o.Keys, defaultKeys)), epoch: time.Now()}
	if r.calls, err = newAllowance(o.Calls, "calls", &o, description); err != nil {
		return nil, err
	}
	r.messages, err = newAllowance(o.Messages, "messages", &o, description)
	return r, err
}

// newAllowance returns nil for n of 0.
func newAllowance(n int, what string, o *Rate, description string) (*allowance, error) {
	if n == 0 {
		return nil, nil
	}
	p, err := newPace(n, o.Per, cmp.Or(o.Burst, n))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return &allowance{p, fmt.Sprintf("the rate limit of %d %s in %v %s", n, what, o.Per, description)}, nil
}

func (r *rate) guard(c *intercept.Call) error {
	var k key
	if r.keyOf != nil {
		k = r.keyOf(c)
	}
	if r.messages != nil {
		c.OnMessage(func(d filter.Direction) error { return r.message(d, k) })
	}
	if r.calls == nil {
		return nil
	}
	now := r.now()
	return r.calls.take(&r.of(k, now).calls, now)
}

func (r *rate) message(d filter.Direction, k key) error {
	if d != filter.Request {
		return nil
	}
	now := r.now()
	return r.messages.take(&r.of(k, now).messages, now)
}

// of returns what is counted of a key.
func (r *rate) of(k key, now int64) *counts {
	if r.keyOf == nil {
		return &r.all
	}
	return r.table.of(k, now)
}

// now is the time in ticks.
func (r *rate) now() int64 { return int64(time.Since(r.epoch)) * ticks }

// take takes one from a bucket, or says how the call ends.
func (a *allowance) take(b *bucket, now int64) error {
	wait := b.take(a.pace, now)
	if wait == 0 {
		return nil
	}
	return intercept.Refuse(stream.RateLimited, stream.ResourceExhausted,
		fmt.Sprintf("%s is used up; try again in %v", a.text, wait), &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
}
