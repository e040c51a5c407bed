// Package kitexhost lets a Kitex server serve its connections with the HTTP/2
// engine of package h2: the server stays one of Kitex's, with its lifecycle,
// registry and services, and what it has no service for goes to the relay.
//
// Calls of services that are registered with the server are handed to Kitex's
// own gRPC transport over a connection in memory, one for each client
// connection that makes any, so that they behave as they always have.
package kitexhost
