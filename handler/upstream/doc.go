// Package upstream keeps a few multiplexed connections to each backend
// instance: opened on need, shared by calls, replaced when they end. It knows
// no transport: how a connection is made and what a stream on it is are the
// business of the Dial it is given.
//
// # Goroutines
//
// A Pool has one goroutine that sweeps, from the first use to Close, and one
// for each attempt to connect, which ends within Options.ConnectTimeout.
//
// # Locks
//
// A call that finds a connection takes the read lock on the pool's map and no
// other. The rest of an instance's state is under a mutex of its own, never
// held while a Transport is called, so that a Transport may tell its Events
// from within.
package upstream
