// Package openapi describes the services of a live schema as an OpenAPI document
// (https://spec.openapis.org/oas/v3.0.3): what the JSON gateway answers, by its
// google.api.http annotations and by the path that every method has, with the JSON
// that protojson reads and writes (https://protobuf.dev/programming-guides/json).
//
// It takes descriptors and nothing else, so that there is a document for whatever a
// backend's reflection gives.
package openapi
