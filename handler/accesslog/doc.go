// Package accesslog writes a line for each call, when that has ended.
//
// Calls never wait for it. What a line needs is copied as the call ends, and queued;
// one goroutine makes lines of it as log/slog has them, and writes many at a time, up to
// gatherTime after the first of them. When the queue is full, new lines are dropped and
// counted.
//
// Whatever a client sends, a line stays one line: what would end it is quoted, and
// characters that a terminal might obey do not come through. Values longer than maxValue
// bytes are cut.
//
// # Goroutines
//
// A Log has one, which ends with Close.
package accesslog
