// Package gateway answers HTTP requests in JSON by making gRPC calls. It has no
// generated code: which requests there are, and what their messages look like, it
// takes from schemas that can be changed while it runs.
//
// A request is routed, annotated, answered and refused by the functions of
// grpc-gateway's package runtime, so that what its users give to a ServeMux can be
// given to a Gateway (Options.Mux), and so that responses look as they know them.
// What package runtime leaves to generated code stands here.
//
//   - Every method is at POST /package.Service/Method, and where its google.api.http
//     annotations say (package gateway/binding).
//   - A reply is a JSON object. Replies of a stream are one to a line, each as
//     {"result": REPLY}, and an error after the first of them is a line
//     {"error": STATUS}. To clients that accept text/event-stream they are
//     Server-Sent Events: "data: REPLY", "event: error" with a status, and
//     "event: end" when the call has ended well, for a browser connects again
//     unless it is told to stop. A comment is sent when nothing has been for a while.
//   - Requests of a stream are JSON values one after the other in the request's body.
//     The reply may begin before it ends.
//   - A browser, which can do neither, opens a WebSocket (package gateway/websocket).
//   - A google.api.HttpBody is the body as it is. An error in the middle of a
//     stream of them breaks off the response.
//
// Errors before the first byte of a response have the HTTP status that belongs to
// the gRPC code, and a google.rpc.Status in JSON, of whose details those are left out
// whose type nobody knows.
package gateway
