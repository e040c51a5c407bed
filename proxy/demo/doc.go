// Package demo shows the proxy at work: Backend implements the Echo service of
// idl/echo.proto, and Play makes calls to it through a proxy, prints what went
// over the wire, and tells whether everything arrived as it was sent. Run does so
// through proxies of its own: one that looks into no message, one with filters in
// Go (filters.go), and one with rules (rules.go).
package demo
