package rule

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// failure is why an expression has no value, or none that can be used. The text
// goes to the client and into logs, and so has nothing of the message.
type failure string

func (f failure) Error() string { return string(f) }

// What may be wrong with a message that an expression looks at.
const (
	errNoField = failure("no such field")
	errNoKey   = failure("no such key")
	errAny     = failure("a google.protobuf.Any holds a message that is not known, or broken")
	errBroken  = failure("a message is broken")
	errTime    = failure("a time or duration is out of range")
)

// What may be wrong with a value.
const (
	errNull      = failure("null is no value of a list or a map")
	errUTF8      = failure("the value is not valid UTF-8")
	errJSON      = failure("the value has no form in JSON")
	errPrintable = failure(`the value is not printable ASCII; use a key that ends in "-bin"`)
)

// errType says that a value, whose type is known only now, is not what it must be.
func errType(v ref.Val, want string) error {
	return failure(fmt.Sprintf("the value is of type %s, not %s", v.Type().TypeName(), want))
}

func errOutOfRange(fd protoreflect.FieldDescriptor) error {
	return failure(fmt.Sprintf("the value is out of the range of %s", fd.Kind()))
}

// celFailures are how the texts of CEL's errors begin, and what is told of them.
// Behind that they may have parts of the message.
var celFailures = []struct{ prefix, told string }{
	{errCost.Message, "it takes too long: " + errCost.Message},
	{"no such key", string(errNoKey)},
	{"no such overload", "a value is of another type than it must be"},
	{"index", "no element of that index"},
	{"division by zero", "division by zero"},
	{"modulus by zero", "modulus by zero"},
	{"integer overflow", "integer overflow"},
	{"unsigned integer overflow", "integer overflow"},
	{"range error", "integer overflow"},
	{"duration overflow", "duration overflow"},
	{"timestamp overflow", "timestamp overflow"},
	{"optional.none() dereference", "an optional value is not there"},
	{"type conversion error", "a value cannot be converted"},
	{"error parsing regexp", "a regular expression is not valid"},
}

// telling returns what may be told of an error.
func telling(err error) string {
	var f failure
	if errors.As(err, &f) {
		return f.Error()
	}
	for _, c := range celFailures {
		if strings.HasPrefix(err.Error(), c.prefix) {
			return c.told
		}
	}
	return "it cannot be evaluated"
}
