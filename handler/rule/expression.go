package rule

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// expression is a compiled expression of a rule. It may be evaluated
// concurrently.
type expression struct {
	field     string // where in the rule it is
	t         *cel.Type
	program   cel.Program
	literal   ref.Val // the value of an expression that is nothing but that, else nil
	source    *ast.SourceInfo
	multiline bool
	metered   bool // whether there is a limit to what it costs
}

// eval returns the expression's value. The error is for the client to know.
func (e *expression) eval(a *activation) (ref.Val, error) {
	if e.literal != nil {
		return e.literal, nil
	}
	a.cost, a.metered = 0, e.metered
	v, _, err := e.program.Eval(a)
	if err != nil {
		return nil, e.failed(err)
	}
	return v, nil
}

// eval1 is eval for an expression that must have a value of type T. When it was
// compiled, that may not have been known.
func eval1[T ref.Val](e *expression, a *activation) (T, error) {
	v, err := e.eval(a)
	if err != nil {
		var none T
		return none, err
	}
	t, ok := v.(T)
	if !ok {
		return t, e.failed(errType(v, t.Type().TypeName()))
	}
	return t, nil
}

// failed returns the error for the client of an evaluation that ended with err.
func (e *expression) failed(err error) error {
	where := ""
	var at *types.Err
	if errors.As(err, &at) && at.NodeID() != 0 {
		where = position(e.source.GetStartLocation(at.NodeID()), e.multiline)
	}
	return fmt.Errorf("%s: %s%s", e.field, where, telling(err))
}

// compiler compiles the expressions of a rule.
type compiler struct {
	env    *cel.Env
	at     filter.Point
	schema *schema // nil if nothing is known of messages
}

// compile returns the expression of a text, or what is wrong with it. The
// expression is nil as well if its types cannot be told without a schema.
func (c *compiler) compile(field, text string) (*expression, []*Error) {
	multiline := strings.Contains(strings.TrimRight(text, "\n"), "\n")
	parsed, issues := c.env.Parse(text)
	if issues.Err() != nil {
		first := issues.Errors()[0] // the others follow from it
		return nil, []*Error{{Field: field, Problem: short(position(first.Location, multiline) + syntaxError(first.Message))}}
	}
	c.schema.forget()
	checked, issues := c.env.Check(parsed)
	if issues.Err() != nil {
		return nil, c.typeErrors(field, multiline, parsed, issues)
	}
	e := &expression{field: field, t: checked.OutputType(), source: checked.NativeRep().SourceInfo(), multiline: multiline}
	if checked.NativeRep().Expr().Kind() == ast.LiteralKind {
		e.literal = checked.NativeRep().Expr().AsLiteral()
		return e, nil
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if e.metered = hasLoop(checked); e.metered {
		options = append(options, cel.CustomDecoratorV2(metered))
	}
	var err error
	if e.program, err = c.env.Program(checked, options...); err != nil {
		return nil, []*Error{{Field: field, Problem: short(err.Error())}}
	}
	return e, nil
}
