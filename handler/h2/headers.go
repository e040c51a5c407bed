package h2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// headers takes in the first frame of a header block (RFC 9113 section 6.2).
func (r *reader) headers(f *frame) error {
	if f.id == 0 {
		return connErrorf(http2.ErrCodeProtocol, "HEADERS on stream 0")
	}
	if !f.unpad() {
		return connErrorf(http2.ErrCodeProtocol, "padding of HEADERS is longer than the frame")
	}
	fragment := f.payload
	r.openSelf = false
	if f.has(flagPriority) {
		if len(fragment) < 5 {
			return connErrorf(http2.ErrCodeFrameSize, "HEADERS too short for their priority")
		}
		r.openSelf = dependsOnItself(f.id, fragment)
		fragment = fragment[5:]
	}
	if f.has(flagEndHeaders) {
		return r.headerBlock(f, fragment)
	}
	r.openID, r.openFlags, r.frames = f.id, f.flags, 0
	r.block = append(r.block[:0], fragment...)
	return nil
}

// Limits of header blocks in pieces (CVE-2024-27316, CVE-2023-45288). A block is
// hardly ever longer than its list.
const (
	maxContinuations = 1000
	maxEmptyPieces   = 10
)

func (r *reader) continuation(f *frame) error {
	if r.openID == 0 {
		return connErrorf(http2.ErrCodeProtocol, "CONTINUATION without HEADERS")
	}
	r.frames++
	if len(f.payload) == 0 {
		r.frames += maxContinuations / maxEmptyPieces
	}
	r.block = append(r.block, f.payload...)
	if r.frames > maxContinuations || len(r.block) > r.maxBlock() {
		return connErrorf(http2.ErrCodeEnhanceYourCalm, "a header block of %d bytes in %d frames", len(r.block), r.frames+1)
	}
	if !f.has(flagEndHeaders) {
		return nil
	}
	whole := frame{kind: http2.FrameHeaders, flags: r.openFlags, id: r.openID}
	block := r.block
	r.openID, r.block = 0, nil
	return r.headerBlock(&whole, block)
}

// maxBlock is how long a header block may be on the wire: twice its list, since
// Huffman coding makes some bytes longer.
func (r *reader) maxBlock() int { return 2 * int(r.c.cfg.MaxHeaderList) }

// headerBlock takes in a whole header block. It is decoded whoever it is for:
// both sides' tables have to stay in step (RFC 7541 section 2.2).
func (r *reader) headerBlock(f *frame, block []byte) error {
	r.fields, r.listSize, r.tooLong = r.fields[:0], 0, false
	r.dec.SetEmitEnabled(true)
	_, err := r.dec.Write(block)
	if err == nil {
		err = r.dec.Close()
	}
	if err != nil {
		return connErrorf(http2.ErrCodeCompression, "a header block cannot be decoded: %v", err)
	}
	if cap(r.fields) > maxIdleFields {
		defer func() { r.fields = nil }()
	} else {
		defer clear(r.fields)
	}
	c := r.c
	c.mu.Lock()
	s := c.streams[f.id]
	switch {
	case s != nil && s.remoteEnded:
		return r.endStream(s, http2.ErrCodeStreamClosed, afterEnd)
	case s != nil && c.client && !s.gotHead:
		return r.responseHead(s, f)
	case s != nil:
		return r.trailers(s, f)
	case s == nil && !c.client && f.id%2 == 1 && f.id >= c.nextID:
		return r.request(f)
	default:
		err := c.strayFrame(f)
		c.mu.Unlock()
		return err
	}
}

// maxIdleFields is how many fields a connection keeps room for.
const maxIdleFields = 256

// request opens a stream. It is called with mu held and releases it.
func (r *reader) request(f *frame) error {
	c := r.c
	c.nextID = f.id + 2
	if f.id > c.goAwayMax {
		c.mu.Unlock()
		return nil // it crossed our GOAWAY, and the client knows what that means
	}
	refuse := func(code http2.ErrCode) error {
		c.seal()
		c.out = appendRSTStream(c.out, f.id, code)
		c.rememberReset(f.id)
		c.mu.Unlock()
		return r.floods.count(floodStray)
	}
	if uint32(len(c.streams)) >= c.cfg.MaxStreams || c.cfg.MaxQueued > 0 && c.queued > c.cfg.MaxQueued/refuseAt {
		return refuse(http2.ErrCodeRefusedStream)
	}
	if r.openSelf {
		return refuse(http2.ErrCodeProtocol)
	}
	last := f.has(flagEndStream)
	s := newStream(c, f.id)
	s.gotHead = true
	s.remoteEnded = last
	if !r.tooLong {
		if bad := s.checkRequest(r.fields, last); bad != "" {
			return refuse(http2.ErrCodeProtocol)
		}
	}
	c.streams[f.id] = s
	c.open.Add(1)
	c.mu.Unlock()
	if r.tooLong {
		s.refuseHeaderList()
		c.deliver()
		return r.floods.count(floodHeaders)
	}
	c.cfg.Begin(s, r.fields, last)
	c.deliver()
	return nil
}

// refuseAt is the part of Config.MaxQueued from which on a client gets no new
// streams: it has enough to read.
const refuseAt = 8

// refuseHeaderList answers a request with too many or too long fields, which
// HTTP has a status for (RFC 6585 section 5).
func (s *Stream) refuseHeaderList() {
	err := s.WriteHeaders([]hpack.HeaderField{{Name: ":status", Value: "431"}, {Name: "content-length", Value: "0"}}, true)
	if err != nil { // the client takes no header list at all
		s.Reset(http2.ErrCodeCancel)
		return
	}
	s.Stop()
}

// responseHead is called with mu held and releases it.
func (r *reader) responseHead(s *Stream, f *frame) error {
	last := f.has(flagEndStream)
	if r.tooLong {
		return r.endStream(s, http2.ErrCodeCancel, tooLongReason)
	}
	interim, bad := s.checkResponse(r.fields, last)
	switch {
	case bad != "":
		return r.endStream(s, http2.ErrCodeProtocol, bad)
	case interim:
		r.c.mu.Unlock()
		return r.floods.count(floodOther)
	}
	s.gotHead = true
	s.remoteEnded, s.telling = last, last
	ev := s.events()
	r.c.mu.Unlock()
	ev.Headers(r.fields, last)
	r.c.told(s, last)
	return nil
}

const tooLongReason = "the header list exceeds the limit"

// trailers is called with mu held and releases it.
func (r *reader) trailers(s *Stream, f *frame) error {
	bad := ""
	switch {
	case r.tooLong:
		bad = tooLongReason
	case !f.has(flagEndStream):
		bad = "trailers without END_STREAM"
	case r.openSelf:
		bad = "a stream that depends on itself"
	case !s.countBody(0, true):
		bad = "the body's length differs from content-length"
	default:
		bad = checkTrailers(r.fields)
	}
	if bad != "" {
		return r.endStream(s, http2.ErrCodeProtocol, bad)
	}
	s.remoteEnded, s.telling = true, true
	ev := s.events()
	r.c.mu.Unlock()
	ev.Trailers(r.fields)
	r.c.told(s, true)
	return nil
}

// checkRequest says what is wrong with the head of a request, "" for nothing
// (RFC 9113 sections 8.2 and 8.3).
func (s *Stream) checkRequest(fields []hpack.HeaderField, last bool) string {
	const method, scheme, path, authority = 1, 2, 4, 8
	seen, regular := 0, false
	value := func(bit int) string {
		if regular || seen&bit != 0 {
			return "a pseudo-header twice, or behind other fields"
		}
		seen |= bit
		return ""
	}
	connect := false
	for i := range fields {
		f, bad := &fields[i], ""
		switch f.Name {
		case ":method":
			bad = value(method)
			connect = f.Value == "CONNECT"
			if !httpguts.ValidHeaderFieldName(f.Value) {
				bad = ":method is not a token"
			}
		case ":scheme":
			bad = value(scheme)
		case ":path":
			bad = value(path)
			if f.Value == "" {
				bad = ":path is empty"
			}
		case ":authority":
			bad = value(authority)
		default:
			regular = true
			bad = s.checkRegular(f)
		}
		if bad == "" && f.Name[0] == ':' && !httpguts.ValidHeaderFieldValue(f.Value) {
			bad = "a pseudo-header with control characters"
		}
		if bad != "" {
			return bad
		}
	}
	switch {
	case connect && seen&(scheme|path) != 0, !connect && seen&(method|scheme|path) != method|scheme|path:
		return "a pseudo-header is missing or too many"
	case last && s.declared > 0:
		return "the body's length differs from content-length"
	}
	return ""
}

// checkResponse says what is wrong with the head of a response, "" for nothing,
// and whether it is an interim one that the real one follows.
func (s *Stream) checkResponse(fields []hpack.HeaderField, last bool) (interim bool, bad string) {
	status := ""
	for i := range fields {
		f := &fields[i]
		if f.Name == ":status" {
			if i > 0 {
				return false, ":status twice, or behind other fields"
			}
			status = f.Value
			continue
		}
		if bad := s.checkRegular(f); bad != "" {
			return false, bad
		}
	}
	code, err := strconv.ParseUint(status, 10, 16)
	switch {
	case err != nil || len(status) != 3 || code < 100:
		return false, ":status is missing or not a number of three digits"
	case code >= 100 && code < 200:
		if last || code == 101 {
			return false, "an interim response that ends the stream or switches protocols"
		}
		s.declared = -1
		return true, ""
	case last && s.declared > 0 && code != 204 && code != 304:
		return false, "the body's length differs from content-length"
	}
	return false, ""
}

func checkTrailers(fields []hpack.HeaderField) string {
	for i := range fields {
		if bad := checkField(&fields[i]); bad != "" {
			return bad
		}
	}
	return ""
}

// checkRegular checks a field that is no pseudo-header, of a head.
func (s *Stream) checkRegular(f *hpack.HeaderField) string {
	if f.Name == "content-length" {
		n, err := strconv.ParseUint(f.Value, 10, 63)
		if err != nil || s.declared >= 0 && s.declared != int64(n) {
			return "content-length is not a number, or there are two"
		}
		s.declared = int64(n)
		return ""
	}
	return checkField(f)
}

// checkField says what is wrong with a field, "" for nothing (RFC 9113 section
// 8.2).
func checkField(f *hpack.HeaderField) string {
	if f.Name == "" || f.Name[0] == ':' {
		return "an unknown pseudo-header, or one in trailers"
	}
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return "a field that belongs to HTTP/1"
	case "te":
		if !strings.EqualFold(f.Value, "trailers") {
			return "te is not trailers"
		}
	}
	if !validName(f.Name) {
		return "a field name that is not in lower case, or not a token"
	}
	if !validValue(f.Value) {
		return "a field value with control characters"
	}
	return ""
}

func validName(name string) bool {
	for i := range len(name) {
		if !nameBytes[name[i]] {
			return false
		}
	}
	return true
}

// nameBytes are the bytes of field names: those of tokens (RFC 9110 section
// 5.6.2) without capitals.
var nameBytes = func() (ok [256]bool) {
	for b := range ok {
		ok[b] = b < 128 && httpguts.IsTokenRune(rune(b)) && (b < 'A' || b > 'Z')
	}
	return ok
}()

// validValue allows what RFC 9113 section 8.2.1 does: anything but NUL, CR and
// LF. Control characters beyond those are the ends' to judge.
func validValue(v string) bool {
	for i := range len(v) {
		if b := v[i]; b == 0 || b == '\r' || b == '\n' {
			return false
		}
	}
	return true
}
