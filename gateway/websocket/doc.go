// Package websocket lets browsers make gRPC calls of any kind over a WebSocket
// (RFC 6455), one call to a connection, in JSON.
//
// Each text message of the client is a request message. One that is empty
// half-closes: browsers can close a WebSocket only as a whole. A method that takes
// one message needs no half-close. Each text message to the client is a response
// message, {"result": MESSAGE}, as in the streams of grpc-gateway. A call that ends
// with another status than OK has a last one, {"error": STATUS}.
//
// Then the connection is closed: with 1000 for OK; 1008 for a status that says the
// client should not try that again, or not so; 1013 for one that says it may later;
// and 1011 for others. The reason is "gRPC code NOT_FOUND: MESSAGE", as far as it
// fits. What is no text is answered with 1003, and a message that is too long with
// 1009.
//
// A client that closes the connection cancels its call. If it does so normally,
// with 1000 or without a code, while it streams, what it has sent still gets to the
// backend, and a half-close behind it.
package websocket
