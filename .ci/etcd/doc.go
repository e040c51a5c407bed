// Package etcd tests the discovery of instances against a real etcd, which is a module
// of its own so that users of the proxy do not get etcd's server.
package etcd
