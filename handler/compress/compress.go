// Package compress holds the message compressions of gRPC that the proxy can
// undo and redo: gzip, deflate and zstd.
package compress

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// ErrTooLong is the error of a message that is longer than allowed when it is
// decompressed, or takes more memory for that than any encoder should ask for.
var ErrTooLong = errors.New("the message is too long")

// Encoding is one way to compress messages: a value of grpc-encoding. Its
// methods may be called concurrently.
type Encoding struct {
	decompress func(src *bytes.Reader) (io.Reader, func(), error)
	compress   func(dst io.Writer) (io.WriteCloser, func())
}

// encodings are by the names that
// https://github.com/grpc/grpc/blob/master/doc/compression.md gives them;
// deflate is zlib's format (RFC 1950).
var encodings = map[string]*Encoding{
	"gzip":    {decompress: readers(newGzipReader), compress: writers(func() resetWriter { return gzip.NewWriter(nil) })},
	"deflate": {decompress: readers(newZlibReader), compress: writers(func() resetWriter { return zlib.NewWriter(nil) })},
	"zstd":    {decompress: readers(newZstdReader), compress: writers(newZstdWriter)},
}

// Find returns the encoding of a grpc-encoding, nil if it is not known.
func Find(name string) *Encoding { return encodings[name] }

// Decompress returns what src holds, in memory of its own. The error is
// ErrTooLong if that is more than limit bytes, of which little more are held.
func (e *Encoding) Decompress(src []byte, limit int) ([]byte, error) {
	in := bytes.NewReader(src)
	r, done, err := e.decompress(in)
	if err != nil {
		return nil, err
	}
	defer done()
	var out bytes.Buffer
	if _, err := out.ReadFrom(io.LimitReader(r, int64(limit)+1)); err != nil {
		return nil, err
	}
	if out.Len() > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit)
	}
	if in.Len() > 0 { // of deflate, which has no next member: filters would not see them
		return nil, errBehind
	}
	return out.Bytes(), nil
}

var errBehind = errors.New("there are bytes behind the end of the compressed message")

// Compress appends the compressed src to dst.
func (e *Encoding) Compress(dst, src []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	w, done := e.compress(out)
	defer done()
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// resetReader is a decompressor that can be used again.
type resetReader interface {
	io.Reader
	reset(src io.Reader) error
}

// readers keeps decompressors for the next message: they are expensive to make.
func readers(fresh func() resetReader) func(src *bytes.Reader) (io.Reader, func(), error) {
	pool := sync.Pool{New: func() any { return fresh() }}
	return func(src *bytes.Reader) (io.Reader, func(), error) {
		r := pool.Get().(resetReader)
		if err := r.reset(src); err != nil {
			return nil, nil, err // r may be broken: it is not kept
		}
		return r, func() { pool.Put(r) }, nil
	}
}

// resetWriter is a compressor that can be used again.
type resetWriter interface {
	io.WriteCloser
	Reset(dst io.Writer)
}

// writers keeps compressors for the next message.
func writers(fresh func() resetWriter) func(dst io.Writer) (io.WriteCloser, func()) {
	pool := sync.Pool{New: func() any { return fresh() }}
	return func(dst io.Writer) (io.WriteCloser, func()) {
		w := pool.Get().(resetWriter)
		w.Reset(dst)
		return w, func() {
			w.Reset(nil)
			pool.Put(w)
		}
	}
}

type gzipReader struct{ gzip.Reader }

func newGzipReader() resetReader                { return new(gzipReader) }
func (r *gzipReader) reset(src io.Reader) error { return r.Reset(src) }

type zlibReader struct{ io.ReadCloser }

func newZlibReader() resetReader { return new(zlibReader) }

func (r *zlibReader) reset(src io.Reader) (err error) {
	if r.ReadCloser == nil {
		r.ReadCloser, err = zlib.NewReader(src)
		return err
	}
	return r.ReadCloser.(zlib.Resetter).Reset(src, nil)
}

type zstdReader struct{ *zstd.Decoder }

// maxZstdWindow bounds what a frame can make a decoder reserve (RFC 8878 asks
// for 8 MiB at least).
const maxZstdWindow = 8 << 20

func newZstdReader() resetReader {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		panic(err) // the options are constant
	}
	return &zstdReader{d}
}

func (r *zstdReader) reset(src io.Reader) error { return r.Reset(src) }

func (r *zstdReader) Read(p []byte) (int, error) {
	n, err := r.Decoder.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = fmt.Errorf("%w: it takes a window of more than %d bytes", ErrTooLong, maxZstdWindow)
	}
	return n, err
}

func newZstdWriter() resetWriter {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constant
	}
	return w
}
