// Package tracers shows which of Kitex's tracers know of proxied calls: those of
// kitex-contrib, on Kitex servers with a relay. It is a module of its own so that they
// are no dependencies of the proxy.
package tracers
