package conf

import (
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// kind is what a node is, in the words of a message.
type kind string

const (
	kindNothing kind = "nothing"
	kindText    kind = "text"
	kindNumber  kind = "a number"
	kindBoolean kind = "a boolean"
	kindMap     kind = "a map"
	kindList    kind = "a list"
)

func kindOf(node ast.Node) kind {
	switch node.(type) {
	case nil, *ast.NullNode:
		return kindNothing
	case *ast.StringNode, *ast.LiteralNode:
		return kindText
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return kindNumber
	case *ast.BoolNode:
		return kindBoolean
	case ast.MapNode:
		return kindMap
	case *ast.SequenceNode:
		return kindList
	default:
		return "something else"
	}
}

// scalarText returns a scalar as it is written, without quotes; "" for a list, a
// map and for nothing.
func scalarText(node ast.Node) string {
	switch n := node.(type) {
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode:
		return n.GetToken().Value
	default:
		return ""
	}
}

func isNull(node ast.Node) bool { return kindOf(node) == kindNothing }

// isPlain tells whether a scalar is written without quotes.
func isPlain(node ast.Node) bool { return node.GetToken().Type == token.StringType }

// startOf returns where a node begins. A block map's own token is the colon of
// its first entry, so its first key is taken.
func startOf(node ast.Node) *token.Position {
	if m, ok := node.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken().Position
	}
	return node.GetToken().Position
}
