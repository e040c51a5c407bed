package h2

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Config is how connections behave. It is not changed once in use, and may be
// shared by any number of them. Zero limits are not: set all that apply.
type Config struct {
	// StreamWindow is how many bytes a peer may send on a stream before they
	// are credited, at first: what a stream that waits holds. The window of
	// one that it holds up grows, up to MaxStreamWindow.
	StreamWindow, MaxStreamWindow uint32
	// ConnWindow is how many bytes a peer may send on all streams together
	// before the reader gets to them.
	ConnWindow uint32
	// MaxHeaderList is the largest header list accepted, in bytes as RFC 9113
	// section 6.5.2 counts them.
	MaxHeaderList uint32
	// MaxStreams is how many streams a client may have open; more are refused
	// with REFUSED_STREAM.
	MaxStreams uint32
	// MaxQueued is how many bytes may wait to be sent to a peer, on all
	// streams of a connection. A client that exceeds it is cut off, and gets
	// no new streams from an eighth of it on.
	MaxQueued int
	// HandshakeTimeout bounds the preface and the first SETTINGS.
	HandshakeTimeout time.Duration
	// Keepalive is how long a connection may be silent before its peer is
	// pinged, and how long the answer may take. 0: never.
	Keepalive time.Duration

	// Begin is called for each new request on a server's connection, by its
	// reader, and says with Stream.SetEvents, before anything else, who is
	// told of the rest. fields are valid during the call only, their strings
	// for ever.
	Begin Begin
	// Changed is called when a client's connection may take another number
	// of streams than before, or none any more, or is over. May be nil.
	Changed func(*Conn)
}

// Begin takes a new request; see Config.
type Begin func(s *Stream, fields []hpack.HeaderField, last bool)

// Events is told what comes in on a stream. Headers, Data and Trailers are
// called by the connection's reader, one at a time; Sent and Closed by anyone,
// at any time. None may block, and none is called with a lock held.
type Events interface {
	// Headers is the head of a response. fields are valid during the call
	// only, their strings for ever. last is END_STREAM.
	Headers(fields []hpack.HeaderField, last bool)
	// Data is a part of the body. b is valid during the call only, and counts
	// against the stream's window until Stream.Credit. last is END_STREAM.
	Data(b []byte, last bool)
	// Trailers end the peer's side of the stream.
	Trailers(fields []hpack.HeaderField)
	// Sent says that n more bytes of what WriteData has left waiting are gone.
	Sent(n int)
	// Closed says that the stream is over; nothing is to be done with it any
	// more. err is nil if both sides have ended it, else a *ResetError or a
	// *LostError. With nil it may come while the reader is still telling what
	// the peer has ended the stream with. Stream.Reset leads to no call, but one
	// that has begun elsewhere may come behind it.
	Closed(err error)
}

// Conn is one HTTP/2 connection. All methods but Serve may be called from
// anywhere, those that say otherwise excepted.
type Conn struct {
	nc     net.Conn
	cfg    *Config
	client bool

	reader reader // of the reader's goroutine alone

	// lastFrame is when the last frame was complete, in nanoseconds of the
	// process's clock, and pinged whether an answer is being waited for.
	lastFrame atomic.Int64
	pinged    atomic.Bool
	noted     atomic.Bool   // there may be notes
	flushing  atomic.Bool   // a FlushSoon is between its yield and its flush
	open      atomic.Int32  // the number of streams
	done      chan struct{} // closed when Serve returns
	settled   chan struct{} // closed when the peer's first SETTINGS have come

	mu      sync.Mutex
	streams map[uint32]*Stream
	nextID  uint32 // client: of the next stream; server: beyond the last one seen
	failure error  // why the connection is over, nil while it is not
	resets  resets

	// What the peer's SETTINGS say.
	peer        peerSettings
	settingsIn  bool // the first have come
	begun       bool // ours have been queued
	acked       bool // and the peer has taken them in
	peerGone    bool // GOAWAY has come
	goAwayMax   uint32
	goAwaySent  bool
	drainPinged bool // the PING between the two GOAWAYs is on its way

	sendWindow int64
	recvUnsent uint32 // bytes received and not credited to the peer yet
	growth     growth
	sentSince  bool // something went out on a stream since the last PING came

	out        []byte // frames that wait to be written
	tail       tail   // the last frame in out, if it can grow
	writing    bool   // someone writes
	spare      []byte // for out, when what was there is being written
	enc        *hpack.Encoder
	block      bytes.Buffer  // what enc writes to
	waiting    []*Stream     // with something to send, held up by the connection
	queued     int           // bytes waiting at streams
	idle       chan struct{} // closed when nobody writes any more; nil if nobody asks
	notes      []note
	spareNotes []note // empty, for when notes are being told

	keepalive *time.Timer // nil for none

	raw *rawSocket // nil if the socket cannot be written without waiting
}

// peerSettings are those of the peer's settings that matter here.
type peerSettings struct {
	maxStreams    uint32
	initialWindow int64
	maxHeaderList uint64
}

// initialPeer is what holds until the peer's SETTINGS have come (RFC 9113
// section 6.5.2).
var initialPeer = peerSettings{
	maxStreams: math.MaxUint32, initialWindow: initialWindow, maxHeaderList: math.MaxUint64,
}

const initialWindow = 65535

// note is something to tell the Events of a stream once no lock is held.
type note struct {
	ev     Events
	sent   int
	closed bool
	err    error // with closed
}

// NewServer returns the server's side of a connection that has been accepted.
func NewServer(nc net.Conn, cfg *Config) *Conn { return newConn(nc, cfg, false) }

// NewClient returns the client's side of a connection that has been made.
func NewClient(nc net.Conn, cfg *Config) *Conn { return newConn(nc, cfg, true) }

func newConn(nc net.Conn, cfg *Config, client bool) *Conn {
	c := &Conn{
		nc: nc, cfg: cfg, client: client, done: make(chan struct{}), settled: make(chan struct{}),
		streams: make(map[uint32]*Stream), nextID: 1, peer: initialPeer,
		sendWindow: initialWindow, goAwayMax: math.MaxUint32, raw: newRawSocket(nc),
	}
	c.enc = hpack.NewEncoder(&c.block)
	c.reader.init(c)
	if client {
		c.begin() // a stream may be opened before Serve
	}
	return c
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Done is closed when Serve has returned.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Serve reads the connection until it is over, and returns why: nil when the
// peer or this side has closed it in order. It must be called once.
func (c *Conn) Serve() error {
	defer close(c.done)
	if c.client {
		c.Flush()
	}
	return c.finish(c.reader.run())
}

// begin queues what each side says first (RFC 9113 section 3.4).
func (c *Conn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.cfg.MaxStreams}
	if c.client {
		c.out = append(c.out, http2.ClientPreface...)
		first = http2.Setting{ID: http2.SettingEnablePush, Val: 0}
	}
	c.out = appendSettings(c.out, first,
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: c.cfg.StreamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: c.cfg.MaxHeaderList})
	if c.cfg.ConnWindow > initialWindow {
		c.out = appendWindowUpdate(c.out, 0, c.cfg.ConnWindow-initialWindow)
	}
	c.begun = true
	if c.goAwaySent {
		c.announceDrain()
	}
}

// finish ends what is left of the connection, tells the peer why if it is at
// fault, and returns err unless it is the ordinary end.
func (c *Conn) finish(err error) error {
	c.mu.Lock()
	if c.keepalive != nil {
		c.keepalive.Stop()
	}
	if c.failure == nil {
		c.failure = err
	} else {
		err = c.failure // what came after is a consequence
	}
	var broken *ConnError
	if errors.As(err, &broken) {
		c.sayGoAway(broken)
	}
	drained := !c.client && err == ErrClosed
	for _, s := range c.streams {
		c.leave(s, &LostError{Cause: err})
	}
	c.mu.Unlock()
	c.deliver()
	c.changed()
	c.reader.flushOthers()
	patience := goodbyeTimeout
	if drained { // what is queued are answers
		patience = max(patience, c.cfg.Keepalive)
	}
	c.sayGoodbye(patience, drained || broken != nil || err == errNotHTTP2)
	if isOrdinaryEnd(err) {
		return nil
	}
	return err
}

// goodbyeTimeout is how long a peer that is being cut off has to take what says
// why.
const goodbyeTimeout = time.Second

// maxGoodbye is how many bytes more of it are looked at.
const maxGoodbye = 1 << 20

// sayGoodbye writes what is queued, for which the peer has as long as patience,
// and closes the socket. With linger it waits for the peer to have read it: a
// socket that is closed while something comes in takes back what it has sent.
func (c *Conn) sayGoodbye(patience time.Duration, linger bool) {
	_ = c.nc.SetDeadline(time.Now().Add(patience))
	c.Flush()
	c.awaitWritten()
	_ = c.nc.SetReadDeadline(time.Now().Add(goodbyeTimeout))
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && linger && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.nc, maxGoodbye)
	}
	_ = c.nc.Close()
}

// endSoon has the reader end the connection for err: after what is queued has
// been written. It needs mu.
func (c *Conn) endSoon(err error) {
	if c.failure == nil {
		c.failure = err
	}
	_ = c.nc.SetReadDeadline(past)
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// setReadDeadline is for the reader. It leaves the deadline alone that ends the
// connection.
func (c *Conn) setReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		_ = c.nc.SetReadDeadline(t)
	}
}

// sayGoAway needs mu.
func (c *Conn) sayGoAway(ce *ConnError) {
	c.seal()
	c.out = appendGoAway(c.out, min(c.lastSeen(), c.goAwayMax), ce.Code, ce.Reason)
}

// lastSeen is the number of the last stream that a client has opened. It needs mu.
func (c *Conn) lastSeen() uint32 {
	if c.client || c.nextID == 1 {
		return 0
	}
	return c.nextID - 2
}

// Close ends the connection at once, and its streams with it. cause, which must
// not be nil, is what they are told. Serve returns soon after.
func (c *Conn) Close(cause error) {
	c.mu.Lock()
	c.endSoon(cause)
	c.mu.Unlock()
	_ = c.nc.Close()
}

// Drain tells the peer of a server's connection to open no new streams
// (RFC 9113 section 6.8): first that the end is near, and when the answer to a
// PING shows that it knows, which stream was the last. The connection ends
// when no stream is left.
func (c *Conn) Drain() {
	c.mu.Lock()
	if c.failure == nil && !c.goAwaySent {
		c.goAwaySent, c.drainPinged = true, true
		if c.begun { // else it follows our SETTINGS
			c.announceDrain()
		}
	}
	c.mu.Unlock()
	c.Flush()
}

// announceDrain needs mu.
func (c *Conn) announceDrain() {
	c.seal()
	c.out = appendGoAway(c.out, math.MaxInt32, http2.ErrCodeNo, "")
	c.out = appendPing(c.out, 0, drainPing[:])
}

var (
	drainPing     = [8]byte{'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'}
	keepalivePing = [8]byte{'s', 't', 'i', 'l', 'l', ' ', 'u', 'p'}
)

// drained needs mu. It says which stream was the last, and ends the connection
// if none is left.
func (c *Conn) drained() {
	c.drainPinged = false
	c.goAwayMax = c.lastSeen()
	c.seal()
	c.out = appendGoAway(c.out, c.goAwayMax, http2.ErrCodeNo, "")
}

// finished reports whether the connection is to be closed because it is drained
// and no stream is left. It needs mu.
func (c *Conn) finished() bool {
	if len(c.streams) > 0 {
		return false
	}
	return c.client && c.peerGone || !c.client && c.goAwaySent && !c.drainPinged
}

// Streams returns how many streams are open.
func (c *Conn) Streams() int { return int(c.open.Load()) }

// MaxStreams returns how many streams the peer allows at a time, once it has
// said so; see Settled.
func (c *Conn) MaxStreams() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer.maxStreams
}

// maxStreamID is the last number that a stream can have (RFC 9113 section 5.1.1).
const maxStreamID = math.MaxInt32

// Usable reports whether the connection takes new streams, now or when others
// have ended.
func (c *Conn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usable()
}

// usable needs mu.
func (c *Conn) usable() bool {
	return c.failure == nil && !c.peerGone && c.nextID <= maxStreamID
}

// Settled is closed once the peer's first SETTINGS have come.
func (c *Conn) Settled() <-chan struct{} { return c.settled }

func (c *Conn) changed() {
	if c.cfg.Changed != nil {
		c.cfg.Changed(c)
	}
}

// startKeepalive looks after the peer at intervals from now on. It is for the
// reader.
func (c *Conn) startKeepalive() {
	c.alive()
	if c.cfg.Keepalive <= 0 {
		return
	}
	c.mu.Lock()
	c.keepalive = time.AfterFunc(c.cfg.Keepalive, c.checkAlive)
	c.mu.Unlock()
}

// alive notes that something has come. It is for the reader.
func (c *Conn) alive() {
	c.lastFrame.Store(int64(time.Since(processStart)))
	if c.pinged.Load() {
		c.pinged.Store(false)
	}
}

var processStart = time.Now()

// checkAlive pings a peer that is silent, ends the connection of one that does
// not answer, and gives back the memory of one with nothing to say.
func (c *Conn) checkAlive() {
	silent := time.Since(processStart) - time.Duration(c.lastFrame.Load())
	c.mu.Lock()
	if c.failure != nil {
		c.mu.Unlock()
		return
	}
	next := c.cfg.Keepalive - silent
	if next <= 0 {
		next = c.cfg.Keepalive
		if c.pinged.Swap(true) {
			c.endSoon(errPingTimeout)
			c.mu.Unlock()
			return
		}
		c.seal()
		c.out = appendPing(c.out, 0, keepalivePing[:])
		if !c.writing {
			c.spare = nil
		}
	}
	c.keepalive.Reset(next)
	c.mu.Unlock()
	c.Flush()
}

// resets remembers the streams that this side has reset last: frames on those
// have crossed the RST_STREAM, and are no fault (RFC 9113 section 5.1).
type resets struct {
	ids  [64]uint32
	next int
}

// rememberReset needs mu.
func (c *Conn) rememberReset(id uint32) {
	c.resets.ids[c.resets.next%len(c.resets.ids)] = id
	c.resets.next++
}

// wasReset needs mu.
func (c *Conn) wasReset(id uint32) bool {
	return slices.Contains(c.resets.ids[:], id)
}

// forgetReset reports whether the stream was one of those, which it is no longer
// once the peer has reset it too. It needs mu.
func (c *Conn) forgetReset(id uint32) bool {
	i := slices.Index(c.resets.ids[:], id)
	if i >= 0 {
		c.resets.ids[i] = 0
	}
	return i >= 0
}
