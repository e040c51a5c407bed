package rule

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// typeErrors says in short what CEL finds wrong with an expression.
func (c *compiler) typeErrors(field string, multiline bool, parsed *cel.Ast, issues *cel.Issues) []*Error {
	var all []*Error
	for _, issue := range issues.Errors() {
		e := c.typeError(parsed, issue)
		if e == nil {
			continue
		}
		e.Field = field
		e.Problem = short(position(issue.Location, multiline) + e.Problem)
		all = append(all, e)
	}
	return all
}

// typeError returns nil if the issue may be none once there is a schema.
func (c *compiler) typeError(parsed *cel.Ast, issue *cel.Error) *Error {
	m := issue.Message
	name, rest := quoted(m)
	switch {
	case strings.HasPrefix(m, "undefined field '"):
		if md := c.schema.missing(name); md != nil {
			return noField(md, name)
		}
		return &Error{Problem: fmt.Sprintf("there is no field %q", name)}
	case strings.HasPrefix(m, "undeclared reference to '"):
		return c.undeclared(name, parsed, issue.ExprID)
	case strings.HasPrefix(m, "found no matching overload for '"):
		types, _ := quoted(rest)
		return noOverload(name, types)
	}
	return &Error{Problem: m}
}

// quoted returns what is between the first quotes of a text, and what follows.
func quoted(text string) (in, rest string) {
	_, rest, _ = strings.Cut(text, "'")
	in, rest, _ = strings.Cut(rest, "'")
	return in, rest
}

// undeclared says what is wrong with a name that is not known, at a part of an
// expression.
func (c *compiler) undeclared(name string, parsed *cel.Ast, id int64) *Error {
	e := &Error{Problem: fmt.Sprintf("there is no variable %q", name)}
	switch nodeKind(parsed, id) {
	case ast.CallKind:
		e.Problem = fmt.Sprintf("there is no function %q", name)
		e.Hint = didYouMean(name, functionNames(c.env))
		return e
	case ast.StructKind:
		if c.schema == nil {
			return nil
		}
		e.Problem = fmt.Sprintf("there is no message %q", name)
		return e
	}
	if c.schema != nil {
		if no := c.noEnumValue(dotted(parsed, id)); no != nil {
			return no
		}
	}
	for i := range variables {
		if variables[i].name == name {
			e.Problem = fmt.Sprintf("there is no variable %q at %s", name, c.at)
			e.Hint = "there is at " + variables[i].points()
			return e
		}
	}
	if e.Hint = didYouMean(name, variableNames(c.at)); e.Hint == "" && c.schema == nil {
		return nil // it may be a package, or an enum
	}
	return e
}

// noEnumValue says that an enum does not have a value, nil if a name is not that
// of an enum and something behind it.
func (c *compiler) noEnumValue(name protoreflect.FullName) *Error {
	for _, candidate := range c.env.Container.ResolveCandidateNames(string(name.Parent())) {
		if enum, ok := c.schema.find(protoreflect.FullName(candidate)).(protoreflect.EnumDescriptor); ok {
			return &Error{
				Problem: fmt.Sprintf("enum %s has no value %q", enum.FullName(), name.Name()),
				Hint:    didYouMean(string(name.Name()), enumNames(enum)),
			}
		}
	}
	return nil
}

// functionNames returns the functions that may be called by name.
func functionNames(env *cel.Env) []string {
	var names []string
	for name := range env.Functions() {
		if name[0] >= 'a' && name[0] <= 'z' { // no operator
			names = append(names, name)
		}
	}
	for _, m := range env.Macros() {
		names = append(names, m.Function())
	}
	slices.Sort(names)
	return names
}

// noOverload says that a function does not take arguments of such types.
func noOverload(name, types string) *Error {
	if symbol, ok := operators.FindReverse(name); ok && symbol != "" {
		name = symbol
	}
	e := &Error{Problem: fmt.Sprintf("%s cannot be applied to %s", strings.Trim(name, "_"), types)}
	switch types {
	case "(uint, int)", "(int, uint)":
		e.Hint = "an unsigned number is written 5u, and int(x) and uint(x) convert"
	case "(double, int)", "(int, double)":
		e.Hint = "a double is written 5.0, and int(x) and double(x) convert"
	case "(int, string)", "(string, int)":
		if name == "==" || name == "!=" {
			e.Hint = "an enum is an int, and its values are written Enum.NAME"
		}
	}
	return e
}

// nodeKind returns the kind of a part of an expression.
func nodeKind(a *cel.Ast, id int64) ast.ExprKind {
	kind := ast.UnspecifiedExprKind
	ast.PreOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.ID() == id {
			kind = e.Kind()
		}
	}))
	return kind
}

// dotted returns the longest name with dots that begins at a part of an
// expression, "" if there is none.
func dotted(a *cel.Ast, id int64) protoreflect.FullName {
	longest := ""
	ast.PreOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		name := ""
		for e.Kind() == ast.SelectKind {
			name = "." + e.AsSelect().FieldName() + name
			e = e.AsSelect().Operand()
		}
		if e.Kind() == ast.IdentKind && e.ID() == id && len(name) > len(longest) {
			longest = e.AsIdent() + name
		}
	}))
	return protoreflect.FullName(longest)
}

// syntaxError returns an error of CEL's parser without what it had expected,
// which is about anything.
func syntaxError(message string) string {
	message, _, _ = strings.Cut(oneLine(message), " expecting ")
	message = strings.ReplaceAll(message, "<EOF>", "end")
	if rest, ok := strings.CutPrefix(message, "Syntax error: "); ok {
		return "syntax error: " + rest
	}
	return message
}

// oneLine makes one line of a text.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// short makes one line of a text, and not a long one.
func short(text string) string {
	const longest = 200
	if text = oneLine(text); len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "..."
	}
	return text
}

// position returns what a problem at a place in an expression begins with.
func position(at common.Location, multiline bool) string {
	switch {
	case at == common.NoLocation || at.Line() < 1 || at.Column() < 0:
		return ""
	case multiline:
		return fmt.Sprintf("line %d, column %d: ", at.Line(), at.Column()+1)
	}
	return fmt.Sprintf("column %d: ", at.Column()+1)
}
