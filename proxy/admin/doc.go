// Package admin is the HTTP server for those who run the proxy: whether it is up and
// ready, its metrics, its profiles, what it knows and how it is configured; and
// grpc.health.v1 on the same port. It is for an address that nobody else reaches, and
// has nothing on it that changes anything.
//
// # Goroutines
//
// Serve has one that accepts connections and one that follows whether the proxy is
// ready. They, and those of the connections, end with its context.
package admin
