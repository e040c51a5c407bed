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
// # Calls that wait
//
// Calls that find no room stand in a line, one for each instance. As it grows,
// connections are opened for it side by side, as far as the cluster's rules allow;
// the first of the line takes what it finds, and the next one steps forward.
//
// # Locks
//
// A call that finds a connection takes no lock at all. Which instances and
// clusters there are is changed under the pool's mutex, which is taken before an
// instance's. The rest of an instance's state is under a mutex of its own, never
// held while a Transport is called, so that a Transport may tell its Events from
// within.
package upstream
