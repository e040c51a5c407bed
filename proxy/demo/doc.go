// Package demo shows the proxy at work: Backend implements the Echo service of
// idl/echo.proto, and Play makes calls to it through a proxy, prints what went
// over the wire, and tells whether everything arrived as it was sent.
package demo
