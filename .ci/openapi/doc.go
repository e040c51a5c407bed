// Package openapi holds the gateway's OpenAPI documents against a validator, JSON as
// protojson has it against the documents, and a gateway against the document that it has
// of itself. It is a module of its own so that users of the proxy do not get the validator.
package openapi
