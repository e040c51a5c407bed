package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// flood is a kind of frame that costs its sender nothing and the receiver
// something. A peer that sends many of one kind is cut off with
// ENHANCE_YOUR_CALM (RFC 9113 section 10.5).
type flood uint8

const (
	floodReset      flood = iota // a stream reset by a client before it was answered (CVE-2023-44487)
	floodStray                   // a frame that was answered with RST_STREAM, or came too late
	floodPing                    // a PING that wants an answer (CVE-2019-9512)
	floodSettings                // SETTINGS that want an acknowledgement (CVE-2019-9515)
	floodEmptyData               // DATA with nothing in it (CVE-2019-9518)
	floodTinyData                // DATA of less than a message's prefix
	floodTinyCredit              // WINDOW_UPDATE that lets next to nothing through (CVE-2019-9511)
	floodHeaders                 // header lists beyond the limit, which are decoded none the less
	floodOther                   // PRIORITY, unknown frames, answers nobody asked for
	floodKinds
)

// allowance is how many of a kind are let through at once, and how many more in
// each second. Calls that are cancelled are ordinary traffic, pings are not.
var allowances = [floodKinds]struct {
	name       string
	burst, per float64
}{
	floodReset:      {"reset streams", 1000, 200},
	floodStray:      {"frames on streams that take none", 2000, 400},
	floodPing:       {"PING frames", 500, 20},
	floodSettings:   {"SETTINGS frames", 100, 2},
	floodEmptyData:  {"empty DATA frames", 1000, 100},
	floodTinyData:   {"DATA frames of some bytes", 4000, 500},
	floodTinyCredit: {"WINDOW_UPDATEs of some bytes", 4000, 500},
	floodHeaders:    {"header lists beyond the limit", 50, 5},
	floodOther:      {"frames without effect", 1000, 100},
}

// tiny is how many bytes are next to nothing: less than a gRPC message has before
// its first byte. What is cut into such pieces costs more than it carries.
const tiny = 5

// floods counts what a peer sends. It belongs to the reader.
type floods [floodKinds]struct {
	level float64   // what has been used of the burst
	at    time.Time // when level was right
}

func (f *floods) count(kind flood) error {
	bucket, allowed := &f[kind], &allowances[kind]
	bucket.level++
	if bucket.level <= allowed.burst/2 {
		return nil // not worth a look at the clock
	}
	now := time.Now()
	if !bucket.at.IsZero() {
		bucket.level = max(0, bucket.level-now.Sub(bucket.at).Seconds()*allowed.per)
	}
	bucket.at = now
	if bucket.level > allowed.burst {
		return connErrorf(http2.ErrCodeEnhanceYourCalm, "too many %s", allowed.name)
	}
	return nil
}
