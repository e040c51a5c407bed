package rule

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"cel.dev/cel-go/common/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// program is a compiled rule. It is not changed when it runs, which it may
// concurrently.
type program struct {
	name      string
	at        filter.Point
	schema    *schema
	condition *expression // nil for none
	cluster   *expression // nil for none
	affinity  *expression // nil for none
	removes   []string
	metadata  []metadataValue
	sets      []assignment
	clears    []path
	redacts   []path
	drop      bool
	reject    *rejection // nil for none
}

// filter returns the filter that runs the program.
func (p *program) filter(method string) *filter.Filter {
	name := "rule " + strconv.Quote(p.name)
	if p.at == filter.AtEnd {
		return filter.NewEnd(method, name, p.end)
	}
	return filter.New(method, p.at, name, p.ask)
}

// ask runs the program at any point but the end.
func (p *program) ask(_ context.Context, c *filter.Call, m any) filter.Verdict {
	r := p.newRun(c)
	defer r.release()
	r.message, _ = m.(proto.Message)
	met, err := p.decide(r)
	switch {
	case err != nil:
		return filter.Fail(err)
	case !met:
		return filter.Forward
	case p.drop:
		return filter.Drop
	case p.reject != nil:
		return filter.Reject(p.reject.code, "%s", r.reason)
	}
	if p.change(r) {
		return filter.Changed
	}
	return filter.Forward
}

// end runs the program at the end.
func (p *program) end(_ context.Context, c *filter.Call, end *filter.End) {
	r := p.newRun(c)
	defer r.release()
	r.activation.end = end
	met, err := p.decide(r)
	switch {
	case err != nil:
		end.Code, end.Message, end.Details = codes.Internal, fmt.Sprintf("rule %q: %v", p.name, err), nil
	case met && p.reject != nil:
		end.Code, end.Message, end.Details = p.reject.code, r.reason, nil
	}
}

// run is what a program works with when it runs.
type run struct {
	activation
	// What the expressions have been evaluated to, in the program's order.
	cluster  string
	affinity string
	metadata []string
	sets     []protoreflect.Value
	reason   string
}

var runs = sync.Pool{New: func() any { return new(run) }}

func (p *program) newRun(c *filter.Call) *run {
	r := runs.Get().(*run)
	r.call = c
	r.values = values{p.schema, &r.activation}
	return r
}

// release gives r back, and lets go of the call.
func (r *run) release() {
	clear(r.metadata)
	clear(r.sets)
	*r = run{metadata: r.metadata[:0], sets: r.sets[:0]}
	runs.Put(r)
}

// decide evaluates the rule, and changes what is sent but for the message. It
// returns false if the rule's condition is not met.
func (p *program) decide(r *run) (bool, error) {
	met, err := p.evaluate(r)
	if err != nil || !met {
		return false, err
	}
	return true, p.send(r)
}

// evaluate evaluates all expressions, before anything is changed. It returns
// false if the rule's condition is not met.
func (p *program) evaluate(r *run) (bool, error) {
	if p.condition != nil {
		met, err := eval1[types.Bool](p.condition, &r.activation)
		if err != nil || !bool(met) {
			return false, err
		}
	}
	if p.sends(r) {
		if err := p.evaluateSent(r); err != nil {
			return false, err
		}
	}
	for i := range p.sets {
		s := &p.sets[i]
		v, err := s.value.eval(&r.activation)
		if err != nil {
			return false, err
		}
		converted, err := p.schema.convert(s.path.last(), v)
		if err != nil {
			return false, s.value.failed(err)
		}
		r.sets = append(r.sets, converted)
	}
	return true, p.evaluateReason(r)
}

// sends reports whether the rule's metadata and cluster can be used now. Of the
// requests only the first can: whether the backend is asked before the second
// has come is a matter of chance.
func (p *program) sends(r *run) bool { return p.at != filter.AtRequest || r.call.Number() <= 1 }

// evaluateSent evaluates the cluster and the values of metadata.
func (p *program) evaluateSent(r *run) error {
	if p.cluster != nil {
		name, err := eval1[types.String](p.cluster, &r.activation)
		if err != nil {
			return err
		}
		r.cluster = string(name)
	}
	if p.affinity != nil {
		key, err := eval1[types.String](p.affinity, &r.activation)
		if err != nil {
			return err
		}
		r.affinity = string(key)
	}
	for i := range p.metadata {
		m := &p.metadata[i]
		v, err := m.value.eval(&r.activation)
		if err != nil {
			return err
		}
		text, err := m.text(v)
		if err != nil {
			return m.value.failed(err)
		}
		r.metadata = append(r.metadata, text)
	}
	return nil
}

// send changes the metadata that goes out next, and the cluster.
func (p *program) send(r *run) error {
	if !p.sends(r) {
		return nil
	}
	if err := p.sendMetadata(r); err != nil && !errors.Is(err, filter.ErrSent) {
		return err // not a stream whose chain does not await the first message
	}
	if p.affinity != nil {
		_ = r.call.SetAffinity(r.affinity) // too late, it makes no difference
	}
	if p.cluster == nil {
		return nil
	}
	err := r.call.SetCluster(r.cluster)
	if errors.Is(err, filter.ErrSent) {
		err = errors.New("cluster: the backend has been asked already")
	}
	return err
}

// change changes the message, and reports whether that has made a difference.
func (p *program) change(r *run) bool {
	if r.message == nil {
		return false
	}
	m, changed := r.message.ProtoReflect(), false
	for i := range p.sets {
		changed = p.sets[i].path.set(m, r.sets[i]) || changed
	}
	for _, path := range p.clears {
		changed = path.clear(m) || changed
	}
	for _, path := range p.redacts {
		changed = path.redact(m) || changed
	}
	return changed
}
