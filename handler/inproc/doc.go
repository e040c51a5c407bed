// Package inproc is a gRPC client inside the process: what calls its Conn makes
// are carried by a function of this process, such as the proxy's relay, and
// cross no connection on their way there. It is for what speaks another protocol
// to its clients, and gRPC to backends.
//
// A call is a stream.Inbound to the function, and to who makes it what
// google.golang.org/grpc promises of its own: the same errors at the same moments.
package inproc
