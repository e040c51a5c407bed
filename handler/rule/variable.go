package rule

import (
	"net"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// variable is one that expressions may use.
type variable struct {
	name string
	t    *cel.Type
	at   []filter.Point // where there is one, nil for everywhere
	// value makes the variable's value, when an expression asks for it.
	value func(a *activation) any
}

const messageVariable = "message"

var (
	stringMap  = cel.MapType(cel.StringType, cel.StringType)
	stringsMap = cel.MapType(cel.StringType, cel.ListType(cel.StringType))

	atMessages  = []filter.Point{filter.AtRequest, filter.AtResponse}
	afterHeader = []filter.Point{filter.AtHeader, filter.AtResponse, filter.AtEnd}
	atEnd       = []filter.Point{filter.AtEnd}
)

// variables are those that the package describes.
var variables = []variable{
	{messageVariable, nil, atMessages, (*activation).messageValue},
	{"metadata", stringMap, nil, func(a *activation) any { return firstValues(a.call.Incoming()) }},
	{"metadata_all", stringsMap, nil, func(a *activation) any { return allValues(a.call.Incoming()) }},
	{"method", cel.StringType, nil, func(a *activation) any { return types.String(a.call.Method()) }},
	{"service", cel.StringType, nil, func(a *activation) any { return types.String(serviceOf(a.call.Method())) }},
	{"authority", cel.StringType, nil, func(a *activation) any { return types.String(a.call.Authority()) }},
	{"peer", cel.StringType, nil, func(a *activation) any { return types.String(address(a.call.Peer())) }},
	{"peer_ip", cel.StringType, nil, func(a *activation) any { return types.String(host(a.call.Peer())) }},
	{"number", cel.IntType, nil, func(a *activation) any { return types.Int(a.call.Number()) }},
	{"cluster", cel.StringType, nil, func(a *activation) any { return types.String(a.call.Cluster()) }},
	{"route", cel.StringType, nil, func(a *activation) any { return types.String(a.call.Route()) }},
	{"header", stringMap, afterHeader, func(a *activation) any { return firstValues(a.call.ResponseHeader()) }},
	{"trailer", stringMap, atEnd, func(a *activation) any { return firstValues(a.call.ResponseTrailer()) }},
	{"code", cel.IntType, atEnd, func(a *activation) any { return types.Int(a.end.Code) }},
	{"code_name", cel.StringType, atEnd, func(a *activation) any { return types.String(stream.Code(a.end.Code).String()) }},
	{"status_message", cel.StringType, atEnd, func(a *activation) any { return types.String(a.end.Message) }},
}

// declared reports whether the variable exists at a point.
func (v *variable) declared(at filter.Point) bool { return v.at == nil || slices.Contains(v.at, at) }

// points names the points where the variable exists.
func (v *variable) points() string {
	names := make([]string, len(v.at))
	for i, p := range v.at {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}

// variableNames returns the names of the variables at a point.
func variableNames(at filter.Point) []string {
	var names []string
	for _, v := range variables {
		if v.declared(at) {
			names = append(names, v.name)
		}
	}
	return names
}

// activation is what an expression is evaluated on: one call, where it is now.
// What expressions do not ask for is not made.
type activation struct {
	call    *filter.Call
	message proto.Message // nil at points without
	end     *filter.End   // nil but at the end
	values  values        // of the message
	whole   message       // the message's value
	metered bool          // whether the expression has a limit
	cost    int           // of the expression, as far as it is evaluated; see metered
}

// costVariable is how metered expressions find their activation. It is no name
// that an expression could have.
const costVariable = "#cost"

// ResolveName returns the value of a variable, as CEL asks for it.
func (a *activation) ResolveName(name string) (any, bool) {
	if name == costVariable {
		return a, true
	}
	for i := range variables {
		if variables[i].name == name {
			return variables[i].value(a), true
		}
	}
	return nil, false
}

// messageValue returns the value of the message, which is made for every field that an
// expression asks for.
func (a *activation) messageValue() any {
	m := a.message.ProtoReflect()
	if wellKnown(m.Descriptor()) {
		return a.values.fromMessage(m)
	}
	a.whole = message{m, &a.values}
	return &a.whole
}

// Parent returns nil: there is nothing else to look at.
func (a *activation) Parent() cel.Activation { return nil }

func serviceOf(method string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return service
}

func address(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// host returns the host of an address, "" if it has none.
func host(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().String()
	}
	h, _, err := net.SplitHostPort(address(a))
	if err != nil {
		return ""
	}
	return h
}
