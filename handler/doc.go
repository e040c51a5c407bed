// Package handler carries one call from the client to a backend and back.
//
// A call is read top to bottom: Serve (handler.go) resolves, opens and relays
// it; resend.go opens the backend's side and sends a call again that the
// backend has not begun; pump.go moves the messages of one direction; end.go
// decides how the call ends for the client.
//
// The package knows transports only by the contract in package stream.
package handler
