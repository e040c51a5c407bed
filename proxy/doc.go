// Package proxy puts the proxy together: it turns a configuration into routes,
// backend connections and Kitex servers, and owns their lifecycle.
//
// Proxy is the whole thing, listeners included. Relay is the part for a Kitex
// server of one's own: its Unknown method is what
// server.WithGRPCUnknownServiceHandler takes. A Director decides where calls go
// without a configuration: TransparentHandler and RegisterService take one.
package proxy
