package rule

import "github.com/kitexproxy/kitexproxy/handler/filter"

// Rule is one rule of a route as the configuration has it. Expressions are in
// CEL; see the package.
type Rule struct {
	Name string       // for people; required
	On   filter.Point // when the rule is asked
	If   string       // a bool; "" is always true

	// What the rule does. At least one of these is required.

	// Metadata changes what is sent next: the request's header at start and
	// request, the response's header at header, its trailer at end.
	Metadata Metadata
	// Cluster is a string, the name of the cluster that the call goes to; at
	// start and request. It is not asked for any but the first message.
	Cluster string
	// Clusters are the names of the clusters that there are, for Cluster to be
	// checked where it is a text; nil if they are not known.
	Clusters []string
	// Affinity is a string, what the call has in common with others that are to go
	// to the same instance, as Call.SetAffinity of package filter has it; at
	// request. It is not asked for any but the first message.
	Affinity string
	// Set has values for fields of the message, by paths such as "a.b.c".
	// Messages on the way are created. null clears a field that is a message.
	Set map[string]string
	// Clear has paths of fields that are cleared.
	Clear []string
	// Redact has paths of string and bytes fields that become "***" where they
	// have a value. They may lead through repeated fields and the values of
	// maps, and mean every element then.
	Redact []string
	// Drop has the message not sent on. It excludes Reject.
	Drop bool
	// Reject ends the call; at end it replaces the status.
	Reject *Reject
}

// Metadata changes metadata. Removals come first, then Set, then Add.
type Metadata struct {
	// Set and Add have values by key, strings; of a key that ends in "-bin" bytes
	// as well. A value has MaxValue bytes at most.
	Set, Add map[string]string
	// Remove has keys.
	Remove []string
}

// Reject is the status that a call ends with.
type Reject struct {
	// Code is the name of a gRPC code other than OK, such as "PERMISSION_DENIED".
	Code string
	// Message is a string, of which the client gets MaxValue bytes at most. ""
	// stands for a text that names the rule.
	Message string
}

// MaxValue is how many bytes rules put into a metadata value, and into the
// message of a status, where they are part of a block of headers. What a client
// puts into a message must not make such a block so long that a peer gives up
// the connection, and other calls with it.
const MaxValue = 4096

// AwaitsFirst reports whether the rule changes what a backend is asked, on
// account of the first message of a request. It does that in a client stream
// only if the chain of its filter has been told to AwaitFirst.
func (r *Rule) AwaitsFirst() bool {
	return r.On == filter.AtRequest && (r.Cluster != "" || r.Affinity != "" || !r.Metadata.empty())
}

// onMessages reports whether there is a message when the rule is asked.
func (r *Rule) onMessages() bool { return r.On == filter.AtRequest || r.On == filter.AtResponse }

// changes reports whether the rule changes the message.
func (r *Rule) changes() bool { return len(r.Set)+len(r.Clear)+len(r.Redact) > 0 }

func (m *Metadata) empty() bool { return len(m.Set)+len(m.Add)+len(m.Remove) == 0 }
