package compress

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

var names = []string{"deflate", "gzip", "zstd"}

// each runs a test for every encoding.
func each(t *testing.T, test func(t *testing.T, name string, e *Encoding)) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) { test(t, name, Find(name)) })
	}
}

// noise is bytes that no compression makes shorter.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestFind(t *testing.T) {
	for _, name := range []string{"", "identity", "br", "GZIP", "snappy"} {
		require.Nil(t, Find(name), name)
	}
	for _, name := range names {
		require.NotNil(t, Find(name), name)
	}
}

func TestRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, _ string, e *Encoding) {
		for _, src := range [][]byte{{}, {0}, []byte("text"), bytes.Repeat([]byte("again "), 100_000), noise(1), noise(300_000)} {
			compressed, err := e.Compress(nil, src)
			require.NoError(t, err)
			got, err := e.Decompress(compressed, len(src))
			require.NoError(t, err)
			require.True(t, bytes.Equal(src, got), "%d bytes", len(src))
		}
	})
}

func TestCompressAppends(t *testing.T) {
	each(t, func(t *testing.T, _ string, e *Encoding) {
		out, err := e.Compress([]byte("before"), []byte("text"))
		require.NoError(t, err)
		require.Equal(t, "before", string(out[:6]))
		got, err := e.Decompress(out[6:], 4)
		require.NoError(t, err)
		require.Equal(t, "text", string(got))
	})
}

// The formats are those that others read and write: deflate is zlib's.
func TestFormatsAreThoseOfOthers(t *testing.T) {
	writers := map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
			require.NoError(t, err)
			return z
		},
	}
	readers := map[string]func(io.Reader) (io.Reader, error){
		"gzip":    func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"deflate": func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
		"zstd":    func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) },
	}
	src := append(bytes.Repeat([]byte("text "), 1000), noise(1000)...)
	each(t, func(t *testing.T, name string, e *Encoding) {
		var theirs bytes.Buffer
		w := writers[name](&theirs)
		_, err := w.Write(src)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		got, err := e.Decompress(theirs.Bytes(), len(src))
		require.NoError(t, err)
		require.True(t, bytes.Equal(src, got))

		ours, err := e.Compress(nil, src)
		require.NoError(t, err)
		r, err := readers[name](bytes.NewReader(ours))
		require.NoError(t, err)
		got, err = io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(src, got))
	})
}

func TestLimitIsExact(t *testing.T) {
	each(t, func(t *testing.T, _ string, e *Encoding) {
		for _, n := range []int{0, 1, 1000, 1 << 20} {
			src := bytes.Repeat([]byte{'x'}, n+1)
			over, err := e.Compress(nil, src)
			require.NoError(t, err)
			_, err = e.Decompress(over, n)
			require.ErrorIs(t, err, ErrTooLong)
			require.ErrorContains(t, err, fmt.Sprintf("more than %d bytes", n))
			exact, err := e.Compress(nil, src[:n])
			require.NoError(t, err)
			_, err = e.Decompress(exact, n)
			require.NoError(t, err)
		}
	})
}

// A few bytes that claim to be many cost no more memory than the limit and what
// a decoder needs.
func TestBombsAreCutOff(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, 16<<20)
	each(t, func(t *testing.T, _ string, e *Encoding) {
		bomb, err := e.Compress(nil, zeros)
		require.NoError(t, err)
		require.Less(t, len(bomb), 32<<10)
		for range 3 {
			used := allocated(func() { _, err = e.Decompress(bomb, limit) })
			require.ErrorIs(t, err, ErrTooLong)
			require.Less(t, used, uint64(2*maxZstdWindow+8*limit))
		}
	})
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A zstd frame says how much memory its decoder needs. That is not believed.
func TestZstdFramesThatClaimMuch(t *testing.T) {
	const magic, rle = "\x28\xb5\x2f\xfd", "\x03\x00\x00x" // one block of no bytes, the last
	for name, frame := range map[string]string{
		"a window of 16 MiB":        magic + "\x00" + "\x70" + rle,
		"a window of 3.75 TiB":      magic + "\x00" + "\xff" + rle,
		"one segment of 16 MiB":     magic + "\xa0" + "\x00\x00\x00\x01" + rle,
		"one segment of 4 EiB":      magic + "\xe0" + "\x00\x00\x00\x00\x00\x00\x00\x40" + rle,
		"and that not in the front": string(compressed(t, "zstd", "fine")) + magic + "\x00" + "\xff" + rle,
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			used := allocated(func() { _, err = Find("zstd").Decompress([]byte(frame), 1<<20) })
			require.ErrorIs(t, err, ErrTooLong)
			require.Less(t, used, uint64(1<<20))
		})
	}
	// This is the largest that every decoder has to take.
	got, err := Find("zstd").Decompress([]byte(magic+"\x00"+"\x68"+rle), 1<<20)
	require.NoError(t, err)
	require.Empty(t, got)
}

func compressed(t testing.TB, name, src string) []byte {
	b, err := Find(name).Compress(nil, []byte(src))
	require.NoError(t, err)
	return b
}

// What is broken gives an error, and nothing of it is left for the next message.
func TestBrokenMessages(t *testing.T) {
	each(t, func(t *testing.T, name string, e *Encoding) {
		whole := compressed(t, name, strings.Repeat("text ", 1000))
		broken := map[string][]byte{"no header": []byte("this is nothing"), "empty": {}}
		for _, n := range []int{1, 3, len(whole) / 2, len(whole) - 1} {
			broken[fmt.Sprint("first ", n)] = whole[:n]
		}
		flipped := slices.Clone(whole)
		flipped[len(flipped)-1] ^= 1 // of a checksum
		broken["flipped bit"] = flipped
		for what, b := range broken {
			for range 3 { // a pool may hand out the same one again
				_, err := e.Decompress(b, 1<<20)
				if name == "zstd" && what == "empty" {
					require.NoError(t, err, "no frame is no bytes")
				} else {
					require.Error(t, err, what)
					require.False(t, errors.Is(err, ErrTooLong), what)
				}
				got, err := e.Decompress(whole, 5000)
				require.NoError(t, err, "after %s", what)
				require.Equal(t, strings.Repeat("text ", 1000), string(got))
			}
		}
	})
}

// What has been decompressed is in memory of its own: neither the next message
// nor what that came as changes it.
// What is behind a compressed message is either part of it, as a further member of gzip
// or frame of zstd is, or an error: filters see all that is sent on.
func TestBytesBehindAMessage(t *testing.T) {
	each(t, func(t *testing.T, name string, e *Encoding) {
		text, err := e.Compress(nil, []byte("text"))
		require.NoError(t, err)
		for _, behind := range []string{"\x00", "garbage"} {
			_, err := e.Decompress(append(bytes.Clone(text), behind...), 100)
			require.Error(t, err)
		}
		got, err := e.Decompress(append(bytes.Clone(text), text...), 100)
		if name == "deflate" {
			require.ErrorIs(t, err, errBehind)
			return
		}
		require.NoError(t, err)
		require.Equal(t, "texttext", string(got))
	})
}

func TestResultsAreOfTheCaller(t *testing.T) {
	each(t, func(t *testing.T, name string, e *Encoding) {
		src := compressed(t, name, "first")
		first, err := e.Decompress(src, 100)
		require.NoError(t, err)
		clear(src)
		_, err = e.Decompress(compressed(t, name, "other"), 100)
		require.NoError(t, err)
		require.Equal(t, "first", string(first))

		out, err := e.Compress(nil, []byte("first"))
		require.NoError(t, err)
		kept := slices.Clone(out)
		_, err = e.Compress(nil, []byte("other"))
		require.NoError(t, err)
		require.Equal(t, kept, out)
	})
}

func TestManyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, name string, e *Encoding) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				src := bytes.Repeat([]byte{byte(i)}, 10_000)
				for range 20 {
					c, err := e.Compress(nil, src)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := e.Decompress(c, len(src))
					if err != nil || !bytes.Equal(src, got) {
						t.Errorf("%d bytes, %v", len(got), err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}
