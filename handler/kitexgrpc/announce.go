package kitexgrpc

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding"
)

// Kitex's server transport announces a response's compression only by the
// name of a compressor that is registered with it, while a proxy passes on
// what the backend compressed, with whatever name. But it asks the compressor
// it has found for the name, and so one compressor, registered under a name of
// its own, can stand for all: it answers with the name being announced.

// passThroughName is the key of the stand-in. A client that names it among
// what it accepts gains nothing: the stand-in refuses to compress.
const passThroughName = "kitexproxy-passthrough"

// announcing is held while a response header with a compression is written:
// the stand-in has one name at a time. Writing a header only queues it.
var announcing sync.Mutex

var standIn = newPassThrough()

func init() { encoding.RegisterCompressor(standIn) }

// announce calls writeHeader with the stand-in answering to name. The stream
// written must have been set to send with passThroughName.
func announce(name string, writeHeader func() error) error {
	announcing.Lock()
	defer announcing.Unlock()
	standIn.name.Store(&name)
	return writeHeader()
}

type passThrough struct{ name atomic.Pointer[string] }

func newPassThrough() *passThrough {
	p, name := &passThrough{}, passThroughName
	p.name.Store(&name)
	return p
}

var _ encoding.Compressor = (*passThrough)(nil)

func (p *passThrough) Name() string { return *p.name.Load() }

var errNoCodec = errors.New(passThroughName + " is no compression")

func (p *passThrough) Compress(io.Writer) (io.WriteCloser, error) { return nil, errNoCodec }
func (p *passThrough) Decompress(io.Reader) (io.Reader, error)    { return nil, errNoCodec }
