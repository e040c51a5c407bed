package openapi

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// What a document consists of, as far as ours do, in the order in which it is
// written. The names are those of the specification
// (https://spec.openapis.org/oas/v3.0.3#specification).
type (
	document struct {
		OpenAPI    string              `json:"openapi"`
		Info       info                `json:"info"`
		Servers    []server            `json:"servers,omitempty"`
		Tags       []tag               `json:"tags,omitempty"`
		Paths      map[string]pathItem `json:"paths"`
		Components components          `json:"components"`
	}

	info struct {
		Title       string `json:"title"`
		Description string `json:"description,omitempty"`
		Version     string `json:"version"`
	}

	server struct {
		URL string `json:"url"`
	}

	tag struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
	}

	// pathItem is what a path does, by verb in lower case.
	pathItem map[string]*operation

	operation struct {
		method protoreflect.FullName // for ourselves

		Tags        []string               `json:"tags"`
		Summary     string                 `json:"summary,omitempty"`
		Description string                 `json:"description,omitempty"`
		OperationID string                 `json:"operationId"`
		Parameters  []*parameter           `json:"parameters,omitempty"`
		RequestBody *body                  `json:"requestBody,omitempty"`
		Responses   map[string]responseRef `json:"responses"`
		Deprecated  bool                   `json:"deprecated,omitempty"`
	}

	parameter struct {
		Name        string  `json:"name"`
		In          string  `json:"in"`
		Description string  `json:"description,omitempty"`
		Required    bool    `json:"required,omitempty"`
		Deprecated  bool    `json:"deprecated,omitempty"`
		Style       string  `json:"style,omitempty"`
		Explode     *bool   `json:"explode,omitempty"`
		Schema      *schema `json:"schema,omitempty"`
		Content     content `json:"content,omitempty"` // instead of a schema
	}

	body struct {
		Description string  `json:"description,omitempty"`
		Content     content `json:"content"`
	}

	// content is what a body is, by media type.
	content map[string]media

	media struct {
		Schema *schema `json:"schema"`
	}

	// responseRef is a response, or a reference to one of the components.
	responseRef struct {
		Ref         string  `json:"$ref,omitempty"`
		Description *string `json:"description,omitempty"`
		Content     content `json:"content,omitempty"`
	}

	components struct {
		Schemas   map[string]*schema     `json:"schemas"`
		Responses map[string]responseRef `json:"responses"`
	}
)

// schema says what JSON a value is. The zero value, {}, is any but null.
type schema struct {
	Ref                  string     `json:"$ref,omitempty"` // and nothing else
	Type                 string     `json:"type,omitempty"`
	Format               string     `json:"format,omitempty"`
	Description          string     `json:"description,omitempty"`
	Deprecated           bool       `json:"deprecated,omitempty"`
	ReadOnly             bool       `json:"readOnly,omitempty"`
	WriteOnly            bool       `json:"writeOnly,omitempty"`
	Nullable             bool       `json:"nullable,omitempty"`
	Pattern              string     `json:"pattern,omitempty"`
	Minimum              *int64     `json:"minimum,omitempty"`
	Maximum              *int64     `json:"maximum,omitempty"`
	Enum                 []any      `json:"enum,omitempty"`
	AllOf                []*schema  `json:"allOf,omitempty"`
	AnyOf                []*schema  `json:"anyOf,omitempty"`
	Items                *schema    `json:"items,omitempty"`
	Properties           properties `json:"properties,omitempty"`
	Required             []string   `json:"required,omitempty"`
	AdditionalProperties *schema    `json:"additionalProperties,omitempty"`
}

// properties are those of an object, in the order in which the message has them.
type properties []property

type property struct {
	name   string
	schema *schema
}

// MarshalJSON writes an object whose members keep their order.
func (p properties) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, one := range p {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := encode(one.name, "")
		if err != nil {
			return nil, err
		}
		value, err := encode(one.schema, "")
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}'), nil
}

// encode writes JSON in which comments stay readable: <, > and & as they are.
func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
