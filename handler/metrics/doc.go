// Package metrics counts calls for Prometheus.
// (https://prometheus.io/docs/practices/naming/)
//
// What a call costs is a look into a map and some atomic additions. Figures of clusters
// and instances are asked for when they are read.
//
// Clients cannot have the figures grow: a method is counted by its name once a backend
// has shown that there is such a method, and as long as there are not too many; calls
// of all others count as "other".
//
// The package starts no goroutines.
package metrics
