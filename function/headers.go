package function

import (
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// isHop reports whether a header is for the next hop alone (RFC 9110 section 7.6.1, and
// those which that section's older versions name).
func isHop(key string) bool {
	switch key {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// passHeader adds what crosses of a header to another one, whose values it shares.
func passHeader(to, from http.Header) {
	for key, values := range from {
		if !isHop(key) {
			to[key] = values
		}
	}
	for _, values := range from["Connection"] {
		for named := range strings.SplitSeq(values, ",") {
			key := textproto.CanonicalMIMEHeaderKey(textproto.TrimString(named))
			if _, ok := from[key]; ok {
				delete(to, key)
			}
		}
	}
}

// requestHeader returns the header that a request goes on with.
func (h *Handler) requestHeader(in *http.Request) http.Header {
	out := make(http.Header, len(in.Header)+4)
	passHeader(out, in.Header)
	if httpguts.HeaderValuesContainsToken(in.Header["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = []string{""} // or net/http says it is Go
	}
	h.forward(out, in)
	return out
}

// setContentType sees to it that a response has a type: its own, or the request's, or
// that of plain text.
func setContentType(response http.Header, request http.Header) {
	const key = "Content-Type"
	if response.Get(key) != "" {
		return
	}
	setOr(response, key, request[key], "text/plain")
}

// announced returns the keys of trailers that may cross, without values yet; nil if there
// are none.
func announced(from http.Header) http.Header {
	var to http.Header
	for key := range from {
		if maySendTrailer(key) {
			if to == nil {
				to = make(http.Header, len(from))
			}
			to[key] = nil
		}
	}
	return to
}

// maySendTrailer is for what nobody could take for part of the header (RFC 9110 section
// 6.5.1), in either direction.
func maySendTrailer(key string) bool {
	return httpguts.ValidTrailerHeader(key) && !isHop(key) && !isForwarding(key)
}
