// Package storm has one test: a proxy under mixed traffic, while the instances of its
// clusters die, leave, come and get slow, and its configuration is reloaded fifty
// times. It is a package of its own so that it runs beside the other tests.
//
//	KITEXPROXY_STORM=60s go test -v ./proxy/storm
//
// has the storm last as long as that; without it is over after 8 seconds. The test
// does not look at how long anything takes. The rule that it checks is at the type
// verdict.
package storm
