// Package h2 is an HTTP/2 engine for proxies (RFC 9113): connections whose
// streams are handled by callbacks from the goroutine that reads, so that a
// stream costs no goroutine, and whatever is queued for a connection is written
// together. It knows nothing of gRPC.
//
// # Goroutines
//
// A connection has one goroutine, its reader: the caller of Serve. It decodes
// frames and calls the streams' Events, which must not block. Whatever anyone
// queues on a connection is written by whoever calls Flush, without waiting;
// only when the socket takes no more, a goroutine waits for it, and ends when
// the queue is empty or the connection is over.
//
// # Locks
//
// Each connection has one mutex, held for the time it takes to queue a frame,
// never while calling back, writing to a socket, or using another connection.
//
// # Flow control
//
// What a stream may not send yet waits at the sending stream, and whoever
// passes it on credits its source only when it has left (Events.Sent,
// Stream.Credit): so a slow reader holds back its own sender, and no stream
// holds more than the source's window. Windows of connections are credited as
// the data comes, so that a stream that waits holds up no other.
package h2
