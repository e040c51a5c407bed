// Package conf turns a YAML file into a valid, read-only Config.
//
// Loading goes default -> strict decode -> validate -> resolve paths and make keys
// of metadata lower-case. Every problem is reported with file, line, field, value and
// what would be valid; an unknown key with the nearest known one.
package conf

import "time"

// Config is everything an operator can set. It is built whole and never
// changed afterwards.
type Config struct {
	// Listeners are the addresses that accept gRPC calls; at least one.
	Listeners []Listener `yaml:"listeners"`
	// Clusters are the named sets of equivalent backend instances.
	Clusters map[string]*Cluster `yaml:"clusters"`
	// Schemas are the named sources of message types for ModeDynamic.
	Schemas map[string]*Schema `yaml:"schemas"`
	// Routes decide where a call goes. The first match wins.
	Routes []Route `yaml:"routes"`
	// Default takes the calls that no route matches. Without it they are
	// answered with UNIMPLEMENTED.
	Default *Action `yaml:"default"`
	// Interceptors are named links around calls, for the lists of listeners and routes.
	Interceptors map[string]*Interceptor `yaml:"interceptors"`
	// HTTP is what answers HTTP clients that know no gRPC. Default nil: nothing does.
	HTTP *HTTP `yaml:"http,omitempty"`
	// Timeouts bound the proxy's own waiting, never the length of a stream.
	Timeouts Timeouts `yaml:"timeouts"`
	// Limits bound what a client or a backend can make the proxy hold.
	Limits Limits `yaml:"limits"`
	// Transport is the HTTP/2 implementation on both sides: TransportNative or
	// TransportKitex. Default TransportNative.
	Transport string `yaml:"transport"`
	// Log is how the proxy reports on itself.
	Log Log `yaml:"log"`
	// AccessLog has a line for each call. Default nil: there is none.
	AccessLog *AccessLog `yaml:"access_log,omitempty"`
	// Metrics are what is counted for the admin address.
	Metrics Metrics `yaml:"metrics"`
	// Tracing reports calls to OpenTelemetry. Default nil: it does not.
	Tracing *Tracing `yaml:"tracing,omitempty"`
	// Admin is where the proxy tells of itself. Default nil: nowhere.
	Admin *Admin `yaml:"admin,omitempty"`

	goInterceptors []string // names that lists may have, too: see WithGoInterceptors
	source         *source  // nil for a Config built in Go
}

// The values of Config.Transport.
const (
	// TransportNative is the proxy's own: exact, strict and cheap.
	TransportNative = "native"
	// TransportKitex is the one that Kitex brings.
	TransportKitex = "kitex"
)

// Mode is how messages cross the proxy.
type Mode string

// The modes.
const (
	// ModeFrame moves encoded messages as they are.
	ModeFrame Mode = "frame"
	// ModeStruct decodes messages into the structs generated for them where
	// filters want to see them. Which those are is said in Go: see package
	// handler/filter.
	ModeStruct Mode = "struct"
	// ModeDynamic decodes messages by the types of a Schema where Rules want
	// to see them. In Config.Default, rules are for the methods that the schema
	// knows; calls of others cross as in ModeFrame.
	ModeDynamic Mode = "dynamic"
)

// The values of Action.Undecodable.
const (
	// UndecodableReject ends the call with INTERNAL.
	UndecodableReject = "reject"
	// UndecodableForward passes the message on as it came, unfiltered.
	UndecodableForward = "forward"
)

// Timeouts bound the proxy's own waiting.
type Timeouts struct {
	// Connect is how long opening a connection to an instance may take,
	// including the HTTP/2 handshake. Default 3s.
	Connect Duration `yaml:"connect"`
	// Shutdown is how long running calls may go on after SIGTERM before
	// they are ended with UNAVAILABLE. Default 10s.
	Shutdown Duration `yaml:"shutdown"`
	// Keepalive is how long a client's connection may be silent before it is
	// pinged, and again how long the answer may take before the connection
	// counts as lost. Default 30s.
	Keepalive Duration `yaml:"keepalive"`
	// IdleConnection is how long a connection to an instance is kept without
	// a call on it. Default 10m; zero keeps it for ever.
	IdleConnection Duration `yaml:"idle_connection"`
}

// Limits bound what one peer can make the proxy hold.
type Limits struct {
	// Message is the longest message, in either direction, as it crosses
	// the wire. A longer one ends its call with RESOURCE_EXHAUSTED. Zero
	// (the default) means no limit: frame mode never holds a whole message.
	Message Size `yaml:"message"`
	// HeaderList is the largest header list accepted from either side,
	// counted as HTTP/2 does (RFC 9113 section 6.5.2). Default 1MiB.
	HeaderList Size `yaml:"header_list"`
	// StreamsPerConnection is how many calls a client may have open on one
	// connection. Default 1000.
	StreamsPerConnection int `yaml:"streams_per_connection"`
	// Connections is how many client connections are accepted on a
	// listener. Default 10000.
	Connections int `yaml:"connections"`
	// StreamWindow is the largest HTTP/2 flow-control window of one stream:
	// how much of a call the proxy holds at most for each direction when the
	// receiver is slower than the sender. It starts at 16KiB (8KiB to backends), and grows while
	// only the path holds the sender up. The streams of a client's connection
	// share it. Default 16MiB.
	StreamWindow Size `yaml:"stream_window"`
	// ConnectionWindow is the HTTP/2 flow-control window of a connection.
	// Default 32MiB.
	ConnectionWindow Size `yaml:"connection_window"`
}

// Log is how the proxy reports on itself, on standard error.
type Log struct {
	// Level is the least severe level written: debug, info, warn or error.
	// Default info.
	Level string `yaml:"level"`
	// Format is text or json. Default text.
	Format string `yaml:"format"`
}

// Duration is a time span written with its unit: "250ms", "10s", "5m".
type Duration time.Duration

// Size is a number of bytes written with its unit: "64KiB", "4MiB", "100B".
type Size int64
