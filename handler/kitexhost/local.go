package kitexhost

import (
	"context"
	"errors"
	"math"
	"net"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cloudwego/kitex/pkg/remote"

	"github.com/kitexproxy/kitexproxy/handler/h2"
)

// local leads the calls of one client connection that are for services of the
// server itself to Kitex's own transport, over a connection in memory that is
// made for the first of them.
type local struct {
	stock  remote.ServerTransHandler
	client net.Conn

	mu      sync.Mutex
	conn    *h2.Conn // nil before the first call
	closed  bool
	running sync.WaitGroup // the two ends of the connection in memory
}

// localWindow is the flow-control window of the connection in memory.
const localWindow = 256 << 10

// connect returns the connection in memory. Kitex's SETTINGS need not be waited
// for: it allows any number of streams.
func (l *local) connect() (*h2.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errGone
	}
	if l.conn != nil {
		return l.conn, nil
	}
	ours, theirs := net.Pipe()
	l.conn = h2.NewClient(ours, &h2.Config{StreamWindow: localWindow, ConnWindow: 4 * localWindow, MaxHeaderList: math.MaxInt32})
	l.running.Go(func() { _ = l.conn.Serve() })                  // ends with close
	l.running.Go(func() { l.serve(&pipeEnd{theirs, l.client}) }) // ends with its other end
	return l.conn, nil
}

var errGone = errors.New("the client's connection is over")

// serve is Kitex's side of the connection in memory.
func (l *local) serve(nc net.Conn) {
	defer nc.Close()
	ctx, err := l.stock.OnActive(context.Background(), nc)
	if err != nil {
		return
	}
	defer l.stock.OnInactive(ctx, nc)
	_ = l.stock.OnRead(ctx, nc) // it has logged what is wrong
}

func (l *local) close() {
	l.mu.Lock()
	l.closed = true
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		conn.Close(errGone)
	}
	l.running.Wait()
}

// pipeEnd is Kitex's end of the connection in memory, which seems to come from
// the client.
type pipeEnd struct {
	net.Conn
	client net.Conn
}

func (p *pipeEnd) RemoteAddr() net.Addr { return p.client.RemoteAddr() }
func (p *pipeEnd) LocalAddr() net.Addr  { return p.client.LocalAddr() }

// begin joins a stream of the client with one of the connection in memory.
func (l *local) begin(s *h2.Stream, fields []hpack.HeaderField, last bool) {
	conn, err := l.connect()
	if err != nil {
		s.Reset(http2.ErrCodeRefusedStream)
		return
	}
	c := &joint{client: s}
	s.SetEvents((*fromClient)(c))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server, err = conn.Open(fields, last, (*fromServer)(c)); err != nil {
		s.Reset(http2.ErrCodeRefusedStream)
		return
	}
	s.Conn().FlushAfterRead(conn)
}

// joint is two streams that are one call.
type joint struct {
	mu     sync.Mutex // held while server is being opened
	client *h2.Stream
	server *h2.Stream
}

func (j *joint) theServer() *h2.Stream {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.server
}

// fromClient is a joint as the client's stream sees it.
type fromClient joint

func (f *fromClient) to() *h2.Stream                      { return (*joint)(f).theServer() }
func (f *fromClient) Headers([]hpack.HeaderField, bool)   {}
func (f *fromClient) Data(b []byte, last bool)            { pass(b, last, f.client, f.to()) }
func (f *fromClient) Trailers(fields []hpack.HeaderField) { end(fields, f.client, f.to()) }
func (f *fromClient) Sent(n int)                          { credit(n, f.to()) }
func (f *fromClient) Closed(err error)                    { abandon(err, f.to()) }

// fromServer is a joint as Kitex's stream sees it.
type fromServer joint

func (f *fromServer) Headers(fields []hpack.HeaderField, last bool) {
	_ = f.client.WriteHeaders(fields, last)
	(*joint)(f).theServer().Conn().FlushAfterRead(f.client.Conn())
}
func (f *fromServer) Data(b []byte, last bool) { pass(b, last, (*joint)(f).theServer(), f.client) }
func (f *fromServer) Trailers(fields []hpack.HeaderField) {
	end(fields, (*joint)(f).theServer(), f.client)
}
func (f *fromServer) Sent(n int)       { credit(n, f.client) }
func (f *fromServer) Closed(err error) { abandon(err, f.client) }

func pass(b []byte, last bool, from, to *h2.Stream) {
	from.Credit(to.WriteData(b, last))
	from.Conn().FlushAfterRead(to.Conn())
}

func end(fields []hpack.HeaderField, from, to *h2.Stream) {
	_ = to.WriteTrailers(slices.Clone(fields))
	from.Conn().FlushAfterRead(to.Conn())
}

func credit(n int, source *h2.Stream) {
	source.Credit(n)
	source.Conn().Flush()
}

func abandon(err error, other *h2.Stream) {
	var reset *h2.ResetError
	switch {
	case err == nil:
		return
	case errors.As(err, &reset):
		other.Reset(reset.Code)
	default:
		other.Reset(http2.ErrCodeCancel)
	}
	other.Conn().Flush()
}
