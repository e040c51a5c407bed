package conf

import "slices"

// Route sends the calls that match to a cluster.
type Route struct {
	// Name is for people, in messages and figures: one line, up to 63 characters,
	// unique. Default "": "routes[3]", by its place. Names of that form, and
	// "default", are taken.
	Name string `yaml:"name,omitempty"`
	// Match selects calls.
	Match Match `yaml:"match"`
	// Action says what happens to them.
	Action `yaml:",inline"`
}

// Match selects calls. A call matches if it does everything that is set; at least
// one field is, and of Method, Service and Package at most one.
type Match struct {
	// Method is a full method name, "/package.Service/Method".
	Method string `yaml:"method,omitempty"`
	// Service is a full service name, "package.Service"; it selects all its
	// methods.
	Service string `yaml:"service,omitempty"`
	// Package is a package, "company.orders"; it selects all services in it and
	// in the packages below.
	Package string `yaml:"package,omitempty"`
	// Authority is the :authority that the client asks for, as it is or without
	// its port, whatever its case. A "*." in front stands for one or more labels.
	Authority string `yaml:"authority,omitempty"`
	// Metadata are what the call's metadata must be like, all of them.
	Metadata []MetadataMatch `yaml:"metadata,omitempty"`
	// Peer are networks, "10.0.0.0/8", or IP addresses; the client is in one of
	// them.
	Peer []string `yaml:"peer,omitempty"`
}

// MetadataMatch is what the metadata of a call must be like for one key. Exactly
// one of Exact, Prefix, Regexp and Present is set. Values of a key that occurs more
// than once match if one of them does.
type MetadataMatch struct {
	// Key is compared without regard to case, and lower-case if it comes from a
	// file.
	Key string `yaml:"key"`
	// Exact is the value.
	Exact *string `yaml:"exact,omitempty"`
	// Prefix is what it begins with.
	Prefix string `yaml:"prefix,omitempty"`
	// Regexp is a regular expression (RE2) that matches all of it.
	Regexp string `yaml:"regexp,omitempty"`
	// Present is true for keys that are there, and false for ones that are not.
	Present *bool `yaml:"present,omitempty"`
}

// Action is what happens to a call.
type Action struct {
	// Cluster is the name of the cluster that answers. One of Cluster and Split is
	// set.
	Cluster string `yaml:"cluster,omitempty"`
	// Split spreads calls over clusters, by weight. Some weight is more than 0, and
	// each cluster is there once.
	Split []WeightedCluster `yaml:"split,omitempty"`
	// Interceptors are the names of those around the call from here on, the outermost
	// first: behind the listener's, and before a backend is asked. Default none.
	Interceptors []string `yaml:"interceptors,omitempty"`
	// Mirror sends copies of calls elsewhere. Default nil: none.
	Mirror *Mirror `yaml:"mirror,omitempty"`
	// Mode is how messages cross the proxy. Default ModeFrame.
	Mode Mode `yaml:"mode"`
	// Timeout is the longest a call may take; the client's own deadline
	// holds as well if it is nearer. Zero (the default) means no limit, so
	// that streams live as long as their ends want.
	Timeout Duration `yaml:"timeout"`
	// UnaryTimeout is Timeout for calls whose request is complete before it has
	// passed, with one message at most: those of unary methods, and of server
	// streams. The nearer of the two holds. Default 0: no limit.
	UnaryTimeout Duration `yaml:"unary_timeout,omitempty"`
	// IdleTimeout is how long a call may be without a message in either
	// direction, up to 720h. Default 0: no limit.
	IdleTimeout Duration `yaml:"idle_timeout,omitempty"`
	// RequestMetadata changes the metadata for the backend.
	RequestMetadata HeaderChanges `yaml:"request_metadata,omitempty"`
	// ResponseHeader changes the headers for the client.
	ResponseHeader HeaderChanges `yaml:"response_header,omitempty"`
	// ResponseTrailer changes the trailers for the client.
	ResponseTrailer HeaderChanges `yaml:"response_trailer,omitempty"`
	// Retry sends calls that failed once more. Default nil: only those that no
	// backend has begun.
	Retry *Retry `yaml:"retry,omitempty"`
	// MessageLimit is the longest message in either direction, instead of
	// Limits.Message; compressed ones are also held to it when they are
	// decompressed for filters. Zero (the default) means Limits.Message or, for
	// messages that filters look at, 4MiB where that is no limit either.
	MessageLimit Size `yaml:"message_limit"`
	// Undecodable says what happens to messages that filters cannot decode.
	// Default UndecodableReject, which "" stands for, too.
	Undecodable string `yaml:"undecodable,omitempty"`
	// Schema is the name of the schema that has the types of the messages:
	// required with ModeDynamic, and an error with other modes.
	Schema string `yaml:"schema,omitempty"`
	// Rules look into calls and change them, in this order. They are an error
	// with modes other than ModeDynamic. Default none.
	Rules []Rule `yaml:"rules"`
}

// Clusters returns the names of the clusters that the action sends calls to, each
// once. What gets copies of them, and what rules choose, is not among them.
func (a *Action) Clusters() []string {
	var names []string
	if a.Cluster != "" {
		names = append(names, a.Cluster)
	}
	for _, s := range a.Split {
		if !slices.Contains(names, s.Cluster) {
			names = append(names, s.Cluster)
		}
	}
	return names
}

// WeightedCluster is one of those that a route spreads its calls over.
type WeightedCluster struct {
	// Cluster is its name.
	Cluster string `yaml:"cluster"`
	// Weight is its share of the sum of all: 0 to 1000000.
	Weight int `yaml:"weight"`
}

// Mirror sends copies of calls to another cluster, whose answers are thrown away.
// The call does not wait for its copy.
type Mirror struct {
	// Cluster is the name of the cluster.
	Cluster string `yaml:"cluster"`
	// Percent is how many of the calls are copied, 0 to 100. Default 100.
	Percent float64 `yaml:"percent"`
}

// HeaderChanges are what a route does to metadata: first Remove, then Set, then
// Add. Keys are compared without regard to case, and lower-case if they come from a
// file; none is of those that HTTP/2 and gRPC use themselves. Values are printable
// ASCII without a space at the ends, and of keys that end in "-bin" base64.
type HeaderChanges struct {
	// Set gives keys one value each, in place of those they have.
	Set map[string]string `yaml:"set,omitempty"`
	// Add gives keys one more value each.
	Add map[string]string `yaml:"add,omitempty"`
	// Remove are keys that lose all their values; none of Set and Add.
	Remove []string `yaml:"remove,omitempty"`
}

// IsEmpty reports whether there are none.
func (h *HeaderChanges) IsEmpty() bool { return len(h.Set)+len(h.Add)+len(h.Remove) == 0 }

// Retry says which calls are sent again, as gRPC's own clients do by a retry
// policy (gRPC proposal A6): never once a response header has gone to the client.
type Retry struct {
	// Codes are the statuses of a backend that another attempt is made after; at
	// least one. Default [UNAVAILABLE].
	Codes []Code `yaml:"codes"`
	// Attempts is how often a call is sent at most, 2 to 10, the first time
	// included. Default 3.
	Attempts int `yaml:"attempts"`
	// Backoff is the pause before the second attempt: 0 to 1m. It doubles with
	// each further one up to MaxBackoff, and is drawn at random from 0.8 to 1.2
	// times that. Default 25ms.
	Backoff Duration `yaml:"backoff"`
	// MaxBackoff is the longest pause: Backoff to 10m. Default 1s.
	MaxBackoff Duration `yaml:"max_backoff"`
	// AttemptTimeout is how long an attempt may take to get its response's
	// headers, up to 720h; DEADLINE_EXCEEDED must be among Codes then. Default
	// 0: no limit of its own.
	AttemptTimeout Duration `yaml:"attempt_timeout,omitempty"`
	// Buffer is how much of a request is kept for sending it again, 0 to 64MiB. A
	// call that has sent more gets no other attempt. Default 64KiB.
	Buffer Size `yaml:"buffer"`
	// BudgetPercent bounds what retries add to the load of the cluster: how many
	// may be under way for each hundred calls, 0 to 1000, but three always may.
	// Default 20.
	BudgetPercent int `yaml:"budget_percent"`
	// Hedge is how long an attempt may be without response headers before
	// another one is made beside it, and the first answer taken: for methods that
	// may be carried out more than once. More than 0, up to 1m. Default 0: none.
	Hedge Duration `yaml:"hedge,omitempty"`
}
