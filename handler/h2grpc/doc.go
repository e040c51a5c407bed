// Package h2grpc carries gRPC calls over the HTTP/2 engine of package h2: the
// second implementation of the streams that the relay works with
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). Header
// fields that are not the protocol's own cross as they came, in their order.
package h2grpc
