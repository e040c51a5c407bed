// Package encodings makes the usual compression names known to Kitex, so that
// its server transport can announce on a response what the backend compressed
// it with. Import it for its side effect in a program that is a proxy and
// nothing else:
//
//	import _ "github.com/kitexproxy/kitexproxy/handler/kitexgrpc/encodings"
//
// gzip is Kitex's own. The others are names only: the proxy passes compressed
// messages on as they are. A typed Kitex service in the same process that lets
// its clients choose one of them would fail to compress, which is why this is
// not part of package kitexgrpc.
package encodings

import (
	"fmt"
	"io"

	"github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding"
	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip" // registers gzip
)

// Names are the compressions that are made known beside gzip.
var Names = []string{"deflate", "snappy", "x-snappy-framed", "s2", "zstd", "lz4", "br"}

func init() {
	for _, name := range Names {
		if encoding.GetCompressor(name) == nil {
			encoding.RegisterCompressor(nameOnly(name))
		}
	}
}

// nameOnly is a compression that can be announced, but not done.
type nameOnly string

func (n nameOnly) Name() string { return string(n) }

func (n nameOnly) Compress(io.Writer) (io.WriteCloser, error) { return nil, n.err() }

func (n nameOnly) Decompress(io.Reader) (io.Reader, error) { return nil, n.err() }

func (n nameOnly) err() error {
	return fmt.Errorf("%s is known to this program by name only; register a compressor of that name after importing kitexgrpc/encodings", string(n))
}
