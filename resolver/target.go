package resolver

import (
	"net"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// Call is what a decision may depend on.
type Call struct {
	// Method is the full method name, "/package.Service/Method".
	Method string
	// Authority is the :authority that the client asked for.
	Authority string
	// Peer is the client's address, nil if it is not known.
	Peer net.Addr
	// Metadata is the call's, nil for none.
	Metadata Metadata
}

// Metadata is what routes see of a call's metadata. It is an interface so that
// transports need not make a copy in a form of somebody else's.
type Metadata interface {
	// Value returns the ith value of a key in lower case, counted from 0. It
	// reports false if there are not that many.
	Value(key string, i int) (string, bool)
}

// List is the Metadata that a list of fields is, for one goroutine. It remembers where
// it was last, so that to go through the values of a key is to go through the list
// once: clients can repeat a key tens of thousands of times.
type List[F any] struct {
	fields []F
	split  func(*F) (key, value string)

	key  string
	next int // the number of the value of key that is at or behind at
	at   int
}

// NewList returns the metadata in fields, of which split tells keys and values.
func NewList[F any](fields []F, split func(*F) (key, value string)) *List[F] {
	return &List[F]{fields: fields, split: split}
}

// Value implements Metadata.
func (l *List[F]) Value(key string, i int) (string, bool) {
	if key != l.key || i < l.next {
		l.key, l.next, l.at = key, 0, 0
	}
	for l.at < len(l.fields) {
		k, value := l.split(&l.fields[l.at])
		l.at++
		if k != key {
			continue
		}
		if l.next++; l.next > i {
			return value, true
		}
	}
	return "", false
}

// Target is where a call goes and how it crosses. It is read-only.
type Target struct {
	// Cluster is where it goes.
	Cluster *cluster.Cluster
	// Route names the route, for people.
	Route string
	Mode  conf.Mode
	// Timeout is the longest the call may take, UnaryTimeout the same for calls
	// whose request is complete when it arrives, and IdleTimeout how long it may
	// be without a message in either direction; 0 means no limit.
	Timeout, UnaryTimeout, IdleTimeout time.Duration
	// MaxMessage is the longest message in bytes that is let through; 0 means
	// the limit of all routes.
	MaxMessage uint32
	// ForwardUndecodable lets messages through that filters cannot decode.
	ForwardUndecodable bool
	// RequestMetadata, ResponseHeader and ResponseTrailer are changes to what is
	// sent on; nil for none.
	RequestMetadata, ResponseHeader, ResponseTrailer *Changes
	// Retry says when the call is sent again; nil: only as long as no backend has
	// begun it.
	Retry *conf.Retry
	// Mirror is where a copy goes; nil for nowhere.
	Mirror *Mirror
	// Owner is what the table was made for; see New.
	Owner any
}

// Changes are what a route does to metadata: first Remove, then Set, then Add.
// Keys are in lower case.
type Changes struct {
	Remove   []string
	Set, Add []Field
}

// Field is a key with a value, as it crosses the wire.
type Field struct{ Key, Value string }

// Mirror is where copies of calls go.
type Mirror struct {
	Cluster *cluster.Cluster
	// Share of the calls is copied, 0 to 1.
	Share float64
}

// IsPlain reports whether messages and metadata cross as they are, to a cluster
// that is known before any message: whether nothing but the time that the call
// may take, and the length of its messages, is looked at on the way.
func (t *Target) IsPlain() bool {
	return t.UnaryTimeout == 0 && t.IdleTimeout == 0 && t.Retry == nil && t.Mirror == nil &&
		t.RequestMetadata == nil && t.ResponseHeader == nil && t.ResponseTrailer == nil
}
