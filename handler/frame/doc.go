// Package frame is frame mode on the engine of package h2: it carries calls from
// connection to connection. Header fields and DATA cross as they come; nothing
// of a message is decoded, no goroutine belongs to a call that has a connection,
// and what one read of a connection brings is written together.
//
// A call that needs more than that goes through package handler instead.
package frame
