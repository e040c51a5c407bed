package rule

import (
	"fmt"
	"regexp/syntax"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
	"google.golang.org/protobuf/proto"
)

// costLimit is what the evaluation of one expression may cost, so that no
// message makes a rule hang or take all memory. Each step costs 1, and 1 more for
// every bytesPerCost bytes of a string and every element of a list that it is
// about, and for every bytesPerCost bytes of a message that it decodes or has looked
// through. 1,000,000 of it take a tenth of a second to one second.
//
// That limits loops. A step that is done once only takes time in proportion to
// its message at most, but for functions that are guarded; so an expression
// without a loop is not metered.
//
// cel.CostLimit is not used, since it takes time in proportion to the square of a
// loop's rounds (cel-go v0.32, (*refValStack).drop): seconds at 100,000.
const costLimit = 1_000_000

const bytesPerCost = 16

// bytesPerDecoding is bytesPerCost for the message in a google.protobuf.Any, and for a
// google.protobuf.Struct, which is encoded before that.
const bytesPerDecoding = 4

// errCost is what evaluating ends with that costs too much.
var errCost = interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: "cost limit exceeded"}

// hasLoop reports whether an expression has loops, and its program is metered. A
// cel.bind is one, too: by it values grow that are used several times.
func hasLoop(a *cel.Ast) bool {
	loops := false
	ast.PreOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		loops = loops || e.Kind() == ast.ComprehensionKind
	}))
	return loops
}

// metered has a step of a program counted when it is done.
func metered(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	switch s := step.(type) {
	case *meteredAttribute, *meteredCall, interpreter.InterpretableConst:
		return step, nil
	case interpreter.InterpretableAttribute:
		return &meteredAttribute{InterpretableAttribute: s}, nil
	case interpreter.InterpretableCall:
		if s.Function() != overloads.Size {
			lookThrough(s.Args())
		}
		return &meteredCall{s}, nil
	case interpreter.InterpretableConstructor:
		lookThrough(s.InitVals())
	}
	return step, nil // is nothing but its parts, which are metered
}

// lookThrough has values be paid for with everything in them: a step compares or
// copies them.
func lookThrough(steps []interpreter.InterpretableV2) {
	for _, step := range steps {
		if a, ok := step.(*meteredAttribute); ok {
			a.deep = true
		}
	}
}

// meteredAttribute is a variable, or what is selected of one.
type meteredAttribute struct {
	interpreter.InterpretableAttribute
	deep bool // it is looked through
}

// Exec evaluates and counts the step.
func (m *meteredAttribute) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := m.InterpretableAttribute.Exec(frame)
	cost := 1 + textSize(v)/bytesPerCost + listSize(v)
	if m.deep {
		cost += size(v) / bytesPerCost
	}
	spend(frame, cost)
	return v
}

// Eval evaluates and counts the step.
func (m *meteredAttribute) Eval(vars interpreter.Activation) ref.Val {
	return m.Exec(interpreter.AsFrame(vars))
}

// meteredCall is a call of a function.
type meteredCall struct{ interpreter.InterpretableCall }

// Exec evaluates and counts the step.
func (m *meteredCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := m.InterpretableCall.Exec(frame)
	spend(frame, 1+textSize(v)/bytesPerCost)
	return v
}

// Eval evaluates and counts the step.
func (m *meteredCall) Eval(vars interpreter.Activation) ref.Val {
	return m.Exec(interpreter.AsFrame(vars))
}

// spend ends the evaluation if it costs too much.
func spend(frame *interpreter.ExecutionFrame, cost int) {
	v, _ := frame.ResolveName(costVariable)
	a, ok := v.(*activation)
	if !ok {
		return // CEL evaluates what is constant when it makes the program
	}
	if !a.pay(cost) {
		panic(errCost) // which the program returns as an error
	}
}

// pay counts a cost, and reports whether that is within the limit.
func (a *activation) pay(cost int) bool {
	if a == nil || !a.metered {
		return true
	}
	a.cost += cost
	return a.cost <= costLimit
}

// size returns how many bytes the messages and texts in a message, a list, a map or an
// optional value have, 0 for anything else.
func size(v ref.Val) int {
	n := 0
	switch v := v.(type) {
	case *message:
		return proto.Size(v.m.Interface())
	case *types.Optional:
		if v.HasValue() {
			return textSize(v.GetValue()) + size(v.GetValue())
		}
	case traits.MutableLister, traits.MutableMapper:
		return 0
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True; {
			e := it.Next()
			n += textSize(e) + size(e)
		}
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True; {
			e, _ := v.Find(it.Next())
			n += textSize(e) + size(e)
		}
	}
	return n
}

// textSize returns the length of a string or bytes in bytes, 0 for anything else.
func textSize(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	}
	return 0
}

// listSize returns how many elements a list or a map has, 0 for anything else and
// for the result of a loop that is not done: that grows with each round, and
// nothing looks at the whole of it until then.
func listSize(v ref.Val) int {
	switch v := v.(type) {
	case traits.MutableLister, traits.MutableMapper:
		return 0
	case traits.Lister:
		return int(v.Size().(types.Int))
	case traits.Mapper:
		return int(v.Size().(types.Int))
	}
	return 0
}

// guards are the functions whose work or result is more than proportional to
// their arguments, with what a call of them costs. What costs too much is not
// done.
var guards = map[string]func(args []ref.Val) float64{
	"sets.contains":   product,
	"sets.equivalent": product,
	"sets.intersects": product,
	"indexOf":         search,
	"lastIndexOf":     search,
	"matches":         match,
	"replace":         replacement,
	"join":            joining,
}

func product(args []ref.Val) float64 { return float64(listSize(args[0])) * float64(listSize(args[1])) }

// search is for CEL's indexOf, which compares at every place. That is fast.
func search(args []ref.Val) float64 {
	return float64(textSize(args[0])) * float64(textSize(args[1])) / (16 * bytesPerCost)
}

// match is for patterns that are no constants: those are compiled before, and do
// not come here. RE2 does a step for each byte and instruction at most.
func match(args []ref.Val) float64 {
	const longest = 10_000 // bytes of a pattern
	if textSize(args[1]) > longest {
		return costLimit + 1
	}
	pattern, err := syntax.Parse(string(args[1].(types.String)), syntax.Perl)
	if err != nil {
		return 0 // which CEL has to say
	}
	compiled, err := syntax.Compile(pattern.Simplify()) // types.RegexProgramSize panics at (x){2}
	if err != nil {
		return 0
	}
	return float64(textSize(args[0])) * float64(len(compiled.Inst)) / (4 * bytesPerCost)
}

func replacement(args []ref.Val) float64 {
	times := float64(textSize(args[0]))/float64(max(textSize(args[1]), 1)) + 1
	return times * float64(textSize(args[2])) / bytesPerCost
}

func joining(args []ref.Val) float64 {
	if len(args) < 2 {
		return 0
	}
	return float64(listSize(args[0])) * float64(textSize(args[1])) / bytesPerCost
}

// guarded returns the options that put the guards before the functions of env.
func guarded(env *cel.Env) ([]cel.EnvOption, error) {
	var opts []cel.EnvOption
	for name, cost := range guards {
		f := env.Functions()[name]
		if f == nil {
			return nil, fmt.Errorf("there is no function %s", name)
		}
		bindings, err := f.Bindings()
		if err != nil {
			return nil, err
		}
		for _, o := range f.OverloadDecls() {
			i := slices.IndexFunc(bindings, func(b *functions.Overload) bool { return b.Operator == o.ID() })
			if i < 0 {
				return nil, fmt.Errorf("function %s: overload %s has no implementation", name, o.ID())
			}
			opts = append(opts, cel.Function(name, redeclare(o, guard(bindings[i], cost))))
		}
	}
	return opts, nil
}

// redeclare declares an overload again, with another implementation.
func redeclare(o *decls.OverloadDecl, f functions.FunctionOp) cel.FunctionOpt {
	if o.IsMemberFunction() {
		return cel.MemberOverload(o.ID(), o.ArgTypes(), o.ResultType(), cel.FunctionBinding(f))
	}
	return cel.Overload(o.ID(), o.ArgTypes(), o.ResultType(), cel.FunctionBinding(f))
}

// guard returns a function that is not called if that costs too much.
func guard(f *functions.Overload, cost func([]ref.Val) float64) functions.FunctionOp {
	return func(args ...ref.Val) ref.Val {
		if cost(args) > costLimit {
			return types.WrapErr(errCost)
		}
		switch {
		case len(args) == 1 && f.Unary != nil:
			return f.Unary(args[0])
		case len(args) == 2 && f.Binary != nil:
			return f.Binary(args[0], args[1])
		}
		return f.Function(args...)
	}
}
