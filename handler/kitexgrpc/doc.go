// Package kitexgrpc carries the relay's calls over Kitex's own gRPC transport:
// it turns the stream that a Kitex server hands to its unknown-service handler
// into a stream.Inbound, and opens stream.Outbounds on connections of Kitex's
// exported HTTP/2 client transport.
//
// It is the first implementation of the contract in package stream, and works
// in any Kitex server. What that transport cannot express is listed in the
// README under limits.
package kitexgrpc
