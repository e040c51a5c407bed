package conf

// Rule looks into the calls of a route at one point, and does something about
// them. Expressions are in CEL, the Common Expression Language
// (https://cel.dev); package handler/rule says what they may use and what the
// changes mean. Here they are text that is not empty.
type Rule struct {
	// Name is for people: one line, up to 63 characters. It is unique within
	// the route.
	Name string `yaml:"name"`
	// On is where in a call the rule is asked: OnStart, OnRequest, OnHeader,
	// OnResponse or OnEnd.
	On string `yaml:"on"`
	// Method is the bare name of the only method that the rule is for, of the
	// service that the route matches. Default "": all that the route matches.
	Method string `yaml:"method,omitempty"`
	// If is an expression for whether the rule does anything. Default "":
	// always.
	If string `yaml:"if,omitempty"`

	// What the rule does; at least one of the following.

	// Reject ends the call with a status. Not OnEnd.
	Reject *Reject `yaml:"reject,omitempty"`
	// Drop discards the message. OnRequest and OnResponse; not with Reject.
	Drop bool `yaml:"drop,omitempty"`
	// Set gives fields of the message values: expressions by the path of the
	// field, "user.name". Set, Clear and Redact are for OnRequest and
	// OnResponse, and not with Reject or Drop; a path is in one of them.
	Set map[string]string `yaml:"set,omitempty"`
	// Clear are the paths of fields that are unset.
	Clear []string `yaml:"clear,omitempty"`
	// Redact are the paths of text and bytes fields that become "***".
	Redact []string `yaml:"redact,omitempty"`
	// Metadata changes the metadata that goes on: what the backend gets OnStart
	// and OnRequest, the client's headers OnHeader, its trailers OnEnd. Not
	// OnResponse.
	Metadata MetadataChanges `yaml:"metadata"`
	// Cluster is an expression for the name of the cluster that the call goes
	// to, instead of the route's. OnStart, and OnRequest for the first message.
	Cluster string `yaml:"cluster,omitempty"`
}

// The values of Rule.On, in the order in which a call comes by them.
const (
	// OnStart is when a call has come, before any message.
	OnStart = "start"
	// OnRequest is for each message from the client.
	OnRequest = "request"
	// OnHeader is when the headers of the backend's response have come.
	OnHeader = "header"
	// OnResponse is for each message from the backend.
	OnResponse = "response"
	// OnEnd is when the call has ended, before the client learns how.
	OnEnd = "end"
)

// Reject is the status that a rule ends a call with.
type Reject struct {
	// Code is any but OK.
	Code Code `yaml:"code"`
	// Message is an expression for the text of the status. Default "": a text
	// that names the rule.
	Message string `yaml:"message,omitempty"`
}

// MetadataChanges is what a rule does to metadata. Keys are compared without
// regard to case.
type MetadataChanges struct {
	// Set gives keys one value each, in place of those they have: expressions
	// by key.
	Set map[string]string `yaml:"set,omitempty"`
	// Add gives keys one more value each, after those of Set: expressions by
	// key.
	Add map[string]string `yaml:"add,omitempty"`
	// Remove are keys that lose all their values; none of Set and Add.
	Remove []string `yaml:"remove,omitempty"`
}

func (m *MetadataChanges) isEmpty() bool {
	return len(m.Set) == 0 && len(m.Add) == 0 && len(m.Remove) == 0
}

// ruleAction is one of the things that a rule can do.
type ruleAction struct {
	key   string
	isSet bool
	on    []string // the points of a call where it is possible
}

func (r *Rule) actions() []ruleAction {
	onMessage := []string{OnRequest, OnResponse}
	return []ruleAction{
		{"reject", r.Reject != nil, points},
		{"drop", r.Drop, onMessage},
		{"set", len(r.Set) > 0, onMessage},
		{"clear", len(r.Clear) > 0, onMessage},
		{"redact", len(r.Redact) > 0, onMessage},
		{"metadata", !r.Metadata.isEmpty(), []string{OnStart, OnRequest, OnHeader, OnEnd}},
		{"cluster", r.Cluster != "", []string{OnStart, OnRequest}},
	}
}
