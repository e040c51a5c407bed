// Package binding reads how methods are bound to HTTP: the google.api.http
// annotations of a schema that became known when the program was already
// running. It is what the JSON gateway routes by and what its OpenAPI document
// describes.
//
// The language of the annotations is that of
// https://github.com/googleapis/googleapis/blob/master/google/api/http.proto
package binding
