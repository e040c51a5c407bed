package rule

import (
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// language returns what the expressions of all rules may use: everything but
// variables and messages. It is made once, since that takes a while.
var language = sync.OnceValues(func() (*cel.Env, error) {
	base, err := cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{ExcludeFunctions: []*env.Function{env.NewFunction("matches")}})), matches,
		ext.Strings(), ext.Encoders(), ext.Math(), ext.Sets(), ext.Bindings(), ext.Network(), cel.OptionalTypes(),
		cel.CrossTypeNumericComparisons(true), // message.size > 5, whatever kind of integer that is
		cel.EnableIdentifierEscapeSyntax(),    // message.`in`
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
	)
	if err != nil {
		return nil, fmt.Errorf("set up CEL: %w", err)
	}
	guards, err := guarded(base)
	if err != nil {
		return nil, fmt.Errorf("set up CEL: %w", err)
	}
	return base.Extend(guards...)
})

// matches is CEL's own function, declared in a way that can be guarded.
var matches = cel.Function("matches",
	cel.Overload("matches_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(matchString)),
	cel.MemberOverload("matches_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(matchString)),
)

func matchString(s, pattern ref.Val) ref.Val { return s.(types.String).Match(pattern) }

// environment returns what the expressions of a rule at a point may use. Without
// a schema the message is of any type.
func environment(base *cel.Env, at filter.Point, s *schema, method protoreflect.MethodDescriptor) (*cel.Env, error) {
	var opts []cel.EnvOption
	message := cel.DynType
	if s != nil {
		opts = append(opts, cel.CustomTypeProvider(s), cel.CustomTypeAdapter(s), cel.Container(string(method.ParentFile().Package())))
		message = cel.ObjectType(string(messageAt(at, method).FullName()))
	}
	for _, v := range variables {
		if !v.declared(at) {
			continue
		}
		t := v.t
		if v.name == messageVariable {
			t = message
		}
		opts = append(opts, cel.Variable(v.name, t))
	}
	return base.Extend(opts...)
}

// messageAt returns the type of the messages that rules at a point are about;
// at a point without messages it does not matter.
func messageAt(at filter.Point, method protoreflect.MethodDescriptor) protoreflect.MessageDescriptor {
	if at == filter.AtResponse {
		return method.Output()
	}
	return method.Input()
}
