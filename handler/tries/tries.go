// Package tries decides to which instance a call is sent, whether it may be sent to
// another one, and what that says about the instance. Both relays, that of whole
// connections (handler/frame) and that of streams (handler), go by it.
package tries

import (
	"fmt"
	"net"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// Tries are those of one call, to send it to an instance of a cluster. It is for one
// goroutine at a time.
type Tries struct {
	cluster *cluster.Cluster
	where   cluster.Tries
	made    int
}

// MaxMade bounds how often a call is sent. Each instance of a cluster gets one at
// least.
const MaxMade = 5

// Begin starts with a cluster. affinity is what the call has in common with others
// that are to go to the same instance, "" for nothing.
func (t *Tries) Begin(c *cluster.Cluster, affinity string) {
	t.cluster = c
	if affinity != "" {
		t.where.Hash, t.where.Hashed = cluster.Hash(affinity), true
	}
}

// Metadata returns the first value of a key of a call's metadata in lower case, ""
// for none.
type Metadata func(key string) string

// Affinity returns what a call has in common with others that are to go to the same
// instance of a cluster, "" for nothing, as far as metadata and the client tell.
func Affinity(c *cluster.Cluster, peer net.Addr, metadata Metadata) string {
	switch on := c.HashOn(); {
	case on == nil:
		return ""
	case on.Metadata != "":
		return metadata(on.Metadata)
	case on.Peer:
		return ipOf(peer)
	default:
		return "" // a message will tell
	}
}

// ipOf returns the IP address in a, "" if it is none of IP.
func ipOf(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	return tcp.IP.String()
}

// Made is how often the call has been sent, or was to be.
func (t *Tries) Made() int { return t.made }

// Next returns the instance to send the call to. down reports instances that are
// known not to be reachable: so one that swallows connection attempts costs the
// calls that found out about it a timeout, and no others. The error is of a cluster
// that has no instances.
func (t *Tries) Next(down func(address string) bool) (*cluster.Endpoint, *stream.Failure) {
	e := t.cluster.Next(&t.where, down)
	if e == nil {
		return nil, &stream.Failure{
			Reason: stream.BackendUnreachable, Code: stream.Unavailable,
			Message: fmt.Sprintf("cluster %q has no instances", t.cluster.Name()), Unprocessed: true,
		}
	}
	t.made++
	return e, nil
}

// MayGoOn reports whether another instance may do better than the one that f tells
// of, which has certainly not begun the call. An instance that does not answer is
// not asked twice: it will not have come up in between.
func (t *Tries) MayGoOn(f *stream.Failure) bool {
	instances := len(t.cluster.Endpoints())
	if !f.Unprocessed || f.Reason == stream.Overloaded || t.made >= max(MaxMade, instances) {
		return false // too much for a cluster is too much for all its instances
	}
	return f.Reason != stream.BackendUnreachable || t.made < instances
}

// Enter counts a call in at its cluster, for Cluster.Leave to count out.
func Enter(c *cluster.Cluster) *stream.Failure {
	if err := c.Enter(); err != nil {
		return &stream.Failure{
			Reason: stream.Overloaded, Code: stream.ResourceExhausted, Message: fmt.Sprintf("cluster %q: %v", c.Name(), err),
		}
	}
	return nil
}

// ResultOf says what a status that an instance has answered with tells of it.
func ResultOf(code stream.Code) cluster.Result {
	switch code {
	case stream.Unavailable, stream.Internal, stream.Unknown, stream.DataLoss, stream.DeadlineExceeded:
		return cluster.Failed
	default:
		return cluster.Succeeded
	}
}

// ResultOfFailure says what the end of a call that no instance has answered tells of
// the one that was asked. owing is true if that had been sent the whole request, and
// had not begun to answer: only then is it its fault that the call's time was over.
func ResultOfFailure(f *stream.Failure, owing bool) cluster.Result {
	switch f.Reason {
	case stream.BackendUnreachable, stream.BackendDisconnected, stream.BackendReset, stream.BackendProtocol:
		return cluster.Failed
	case stream.DeadlinePassed, stream.RouteTimeout:
		if owing {
			return cluster.Failed
		}
	}
	return cluster.Unknown
}
