package openapi

import "cmp"

// Envelope names the members of the object that the gateway puts around what it
// writes.
type Envelope struct {
	// Errno has the gRPC code, 0 for OK. Default "errno".
	Errno string
	// Msg has the status's message. Default "msg".
	Msg string
	// Data has the reply. Default "data".
	Data string
	// AlwaysOK has errors come with the status 200, too.
	AlwaysOK bool
}

// aroundEither is around for where there may be an error in the reply's place.
func (e *Envelope) aroundEither(reply *schema) *schema {
	details := &schema{Type: "array", Items: new(schema), Nullable: true, Description: "Of an error: its details, or null."}
	return e.around(&schema{AnyOf: []*schema{reply, details}})
}

// around returns the schema of an envelope with data in it, which is anything if it
// is nil: an error has none, or details.
func (e *Envelope) around(data *schema) *schema {
	if data == nil {
		data = &schema{Nullable: true}
	}
	errno, msg := cmp.Or(e.Errno, "errno"), cmp.Or(e.Msg, "msg")
	return &schema{
		Type: "object",
		Properties: properties{
			{errno, &schema{Type: "integer", Format: "int32", Description: "The gRPC status code, 0 for OK."}},
			{msg, &schema{Type: "string", Description: "What went wrong."}},
			{cmp.Or(e.Data, "data"), data},
		},
		Required: []string{errno, msg},
	}
}
