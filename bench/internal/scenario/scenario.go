// Package scenario lists the loads that are measured. Runner and loader share the list, so a name is all that passes
// between them.
package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is the shape of a load.
type Kind int

const (
	Unary        Kind = iota // each caller makes one call after another
	PingPong                 // each caller keeps one bidi stream and sends when the answer has come
	ServerStream             // each caller reads one server stream after another to its end
	Idle                     // streams are opened, answer once and then lie still
	Order                    // each caller posts one message in JSON after another
	Post                     // each caller posts one body after another to a function
	Get                      // each caller asks a function for one body after another
)

// Protocol is what client and backend speak.
type Protocol int

const (
	GRPC Protocol = iota
	JSON          // the client JSON in HTTP/1.1, the backend gRPC
	HTTP          // both HTTP/1.1
)

// Protocol is what the kind of load is made in.
func (k Kind) Protocol() Protocol {
	switch k {
	case Order:
		return JSON
	case Post, Get:
		return HTTP
	}
	return GRPC
}

// Scenario is one load.
type Scenario struct {
	Name     string
	About    string // one sentence for the reader of the figures
	Op       string // what "operation" means in the figures
	Latency  string // what a latency is the time of; empty if none is taken
	Kind     Kind
	Callers  int // how many calls are open at a time
	Conns    int // client connections they are spread over; in HTTP/1.1 there is one for each caller
	Size     int // bytes of a message
	Messages int // messages of a server stream
	Procs    int // processors the proxy may use; 0 for all

	Pause   time.Duration // of a caller after each unary call
	Timeout time.Duration // of a unary call; 0 for none
}

// All is every scenario of an ordinary run, in the order of the report.
var All = []Scenario{
	{
		Name: "unary-1k", Kind: Unary, Callers: 64, Conns: 4, Size: 1 << 10, Op: "call", Latency: "a call",
		About: "Unary calls, 1 KiB request and 1 KiB reply, 64 callers over 4 connections.",
	},
	{
		Name: "unary-64b", Kind: Unary, Callers: 1, Conns: 1, Size: 64, Op: "call", Latency: "a call",
		About: "Unary calls, 64 bytes each way, one caller: what a lone call waits and costs, with nothing to batch it with.",
	},
	{
		Name: "bidi-pingpong", Kind: PingPong, Callers: 32, Conns: 4, Size: 1 << 10, Op: "round trip", Latency: "a round trip",
		About: "32 bidi streams over 4 connections, 1 KiB there and back, one message in flight on each.",
	},
	{
		Name: "server-stream", Kind: ServerStream, Callers: 64, Conns: 4, Size: 1 << 10, Messages: 2000,
		Op: "message", Latency: "a whole stream of 2,000 messages",
		About: "Server streams of 2,000 messages of 1 KiB, 64 at a time over 4 connections.",
	},
	{
		Name: "unary-4m", Kind: Unary, Callers: 4, Conns: 4, Size: 4 << 20, Op: "call", Latency: "a call",
		About: "Unary calls, 4 MiB request and 4 MiB reply, 4 callers over 4 connections.",
	},
	{
		Name: "idle-streams", Kind: Idle, Callers: 1000, Conns: 4, Size: 1 << 10, Op: "stream",
		About: "1,000 open bidi streams over 4 connections, idle after one echoed message of 1 KiB.",
	},
	{
		Name: "unary-json", Kind: Order, Callers: 64, Conns: 64, Size: 1 << 10, Op: "call", Latency: "a call",
		About: "Unary calls in JSON over HTTP/1.1, 1 KiB there and back (an order of six items), 64 callers with a connection each.",
	},
	{
		Name: "function-post", Kind: Post, Callers: 64, Conns: 64, Size: 1 << 10, Op: "request", Latency: "a request",
		About: "POST over HTTP/1.1, 1 KiB there and back, 64 callers with a connection each.",
	},
	{
		Name: "function-get", Kind: Get, Callers: 64, Conns: 64, Size: 1 << 10, Op: "request", Latency: "a request",
		About: "GET over HTTP/1.1, 1 KiB back, 64 callers with a connection each.",
	},
}

// Reference is the name of the target that others are compared with.
func (s Scenario) Reference() string {
	switch s.Kind.Protocol() {
	case JSON:
		return "grpc-gateway"
	case HTTP:
		return "reverse-proxy"
	}
	return "mwitkow"
}

// Open is many streams at a time.
var Open = Scenario{
	Name: "streams-10k", Kind: Idle, Callers: 10_000, Conns: 20, Size: 1 << 10, Op: "stream",
	About: "10,000 open bidi streams over 20 connections, idle after one echoed message of 1 KiB.",
}

// The processors and the client connections that Scaling goes through.
var (
	ScalingProcs = []int{1, 2}
	ScalingConns = []int{1, 4, 64, 1000}
)

// Scaling is the same load over ever more connections and on ever more processors, and Open.
var Scaling = append(scaling(), Open)

func scaling() (all []Scenario) {
	for _, conns := range ScalingConns {
		for _, procs := range ScalingProcs {
			all = append(all, Scenario{
				Name: ScalingName(conns, procs), Kind: Unary, Callers: max(64, conns), Conns: conns, Size: 1 << 10, Procs: procs,
				Op: "call", Latency: "a call",
				About: fmt.Sprintf("Unary calls, 1 KiB request and 1 KiB reply, %d callers over %d connections, proxy on %d processor(s).",
					max(64, conns), conns, procs),
			})
		}
	}
	return all
}

// ScalingName is the name of one of Scaling.
func ScalingName(conns, procs int) string { return fmt.Sprintf("unary-1k-c%d-p%d", conns, procs) }

// Healthy is the client beside an attacker: few calls, so that waiting is the exception.
var Healthy = Scenario{
	Name: "healthy", Kind: Unary, Callers: 8, Conns: 2, Size: 64, Op: "call", Latency: "a call",
	Pause: time.Millisecond, Timeout: time.Second,
	About: "Unary calls, 64 bytes each way, 8 callers over 2 connections with a pause of 1 ms after each call.",
}

// Names are the names of all scenarios of an ordinary run.
func Names() []string { return names(All) }

func names(all []Scenario) []string {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Name
	}
	return names
}

// ByName finds a scenario of any run; its error lists the names there are.
func ByName(name string) (Scenario, error) {
	every := slices.Concat(All, Scaling, []Scenario{Healthy})
	for _, s := range every {
		if s.Name == name {
			return s, nil
		}
	}
	return Scenario{}, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(names(every), ", "))
}
