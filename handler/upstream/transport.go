package upstream

import (
	"context"
	"crypto/tls"
)

// Transport is one HTTP/2 connection to an instance, as a Dial made it. The
// pool owns it: it is closed once, or more than once, unless its Events have
// been told Closed before.
//
// Stuck is called by one goroutine, the rest from anywhere, none with a lock
// held that Events need.
type Transport interface {
	// Usable reports whether the connection takes new streams, now or when
	// others have ended.
	Usable() bool
	// Stuck reports that nobody reads the connection any more, after which it
	// is closed. It is asked at regular intervals, four times a second.
	Stuck() bool
	// Close ends the connection and its streams at once, because of cause.
	// Events may be told Closed before it returns, and must be in the end.
	Close(cause error)
}

// Peer is whom a Dial connects to.
type Peer struct {
	// Address is "host:port" or "unix:///path/to/socket".
	Address string
	// TLS encrypts the connection; nil: plaintext. Its GetConfigForClient, if set,
	// returns the one that holds at present, as it does for servers; it is called
	// with nil. An empty ServerName stands for the host of Address.
	TLS *tls.Config
}

// Dial opens a connection to an instance, and returns once the backend's SETTINGS
// are in force. ctx bounds that and nothing after it: the connection outlives
// the call that it was opened for. limit is how many streams the backend allows
// at a time, math.MaxInt64 if it sets no limit.
//
// ev is told what becomes of the connection, from the beginning of its life:
// before Dial returns, too. After an error nothing it is told matters.
type Dial func(ctx context.Context, to Peer, ev Events) (t Transport, limit int64, err error)

// Events is told what becomes of a connection. The methods may be called from
// anywhere, at any time and repeatedly, and wait for nothing but a short lock.
type Events interface {
	// Retired says that the connection takes no new streams any more (GOAWAY).
	// Those it has go on.
	Retired()
	// Limit says that the backend now allows n streams at a time. Transports
	// that tell it tell every change, in order: the last one told holds, also
	// over what Dial returns.
	Limit(n int64)
	// Closed says that the connection is over.
	Closed()
}
