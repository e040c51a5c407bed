package gateway

import (
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// headers decides which headers become metadata, and which metadata headers.
type headers struct {
	incoming           map[string]string // canonical header to metadata
	outgoing, trailers map[string]string // metadata to header
	cookies            map[string]string // cookie to metadata
	fromCookies        map[string]bool   // metadata
	origins            *http.CrossOriginProtection
	trusted            []netip.Prefix
}

func newHeaders(o *Options) *headers {
	h := &headers{
		incoming: make(map[string]string), outgoing: namesOf(o.OutgoingHeaders), trailers: namesOf(o.OutgoingTrailers),
		cookies: make(map[string]string), fromCookies: make(map[string]bool), origins: o.CrossOrigin, trusted: o.TrustedProxies,
	}
	for _, name := range o.IncomingHeaders {
		if reserved(name) {
			o.Logger.Warn("a header cannot become metadata: the name is reserved", "header", name)
			continue
		}
		h.incoming[textproto.CanonicalMIMEHeaderKey(name)] = strings.ToLower(name)
	}
	for cookie, key := range o.Cookies {
		key = strings.ToLower(key)
		if reserved(key) && key != "authorization" {
			o.Logger.Warn("a cookie cannot become metadata: the name is reserved", "cookie", cookie, "metadata", key)
			continue
		}
		h.cookies[cookie], h.fromCookies[key] = key, true
	}
	return h
}

func namesOf(list []string) map[string]string {
	names := make(map[string]string, len(list))
	for _, name := range list {
		names[strings.ToLower(name)] = textproto.CanonicalMIMEHeaderKey(name)
	}
	return names
}

// reserved reports whether metadata of that name says something that only the
// protocol, the gateway or the proxy may say. A client must not be able to send it as
// Grpc-Metadata-NAME.
func reserved(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "", "content-type", "content-length", "te", "host", "authorization", "user-agent", "connection", "keep-alive",
		"proxy-connection", "transfer-encoding", "upgrade", "trailer", "forwarded":
		return true
	}
	return slices.ContainsFunc(reservedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

var reservedPrefixes = []string{":", "grpc-", "x-kitexproxy-", "x-forwarded-", runtime.MetadataPrefix}

// muxOptions are what a ServeMux needs to decide the same.
func (h *headers) muxOptions() []runtime.ServeMuxOption {
	options := []runtime.ServeMuxOption{
		runtime.WithIncomingHeaderMatcher(h.matchIncoming),
		runtime.WithMetadata(h.forwardedProto),
		runtime.WithOutgoingHeaderMatcher(matcher(h.outgoing, runtime.MetadataHeaderPrefix)),
		runtime.WithOutgoingTrailerMatcher(matcher(h.trailers, runtime.MetadataTrailerPrefix)),
	}
	if len(h.cookies) > 0 {
		options = append(options, runtime.WithMetadata(h.cookieMetadata))
	}
	return options
}

func (h *headers) matchIncoming(name string) (string, bool) {
	if key, ok := h.incoming[textproto.CanonicalMIMEHeaderKey(name)]; ok {
		return key, true
	}
	return runtime.DefaultHeaderMatcher(name)
}

func matcher(own map[string]string, prefix string) runtime.HeaderMatcherFunc {
	return func(key string) (string, bool) {
		if name, ok := own[key]; ok {
			return name, true
		}
		return prefix + key, true
	}
}

// asText returns metadata with what is binary as gRPC has it in headers, in which bytes of
// any kind cannot be.
func asText(md metadata.MD) metadata.MD {
	text, cloned := md, false
	for key, values := range md {
		if !strings.HasSuffix(key, "-bin") {
			continue
		}
		if !cloned {
			text, cloned = maps.Clone(md), true
		}
		text[key] = make([]string, len(values))
		for i, v := range values {
			text[key][i] = base64.RawStdEncoding.EncodeToString([]byte(v))
		}
	}
	return text
}

var errForeignPage = status.Error(codes.PermissionDenied, "a page of another origin may not use cookies that say who calls")

// checkCookies returns an error for a request that a page of another site has a browser send
// with cookies that say who its user is: SameSite, by which cookies may refuse that
// themselves, is not for all of them.
func (h *headers) checkCookies(req *http.Request) error {
	if len(h.cookies) == 0 || len(h.cookieMetadata(req.Context(), req)) == 0 || h.origins.Check(req) == nil {
		return nil
	}
	return errForeignPage
}

func (h *headers) cookieMetadata(_ context.Context, req *http.Request) metadata.MD {
	md := metadata.MD{}
	for _, c := range req.Cookies() {
		if key, ok := h.cookies[c.Name]; ok {
			md[key] = []string{c.Value} // the last one, as when a browser has got several
		}
	}
	return md
}

// forwardedProto adds to X-Forwarded-For and -Host, which package runtime sees to.
func (h *headers) forwardedProto(_ context.Context, req *http.Request) metadata.MD {
	proto := req.Header.Get("X-Forwarded-Proto")
	switch {
	case proto == "http" || proto == "https": // it would not be there unless the client is trusted
	case req.TLS != nil:
		proto = "https"
	default:
		proto = "http"
	}
	return metadata.MD{"x-forwarded-proto": {proto}}
}

// clean returns the request without the headers by which a client could say what it
// is not believed.
func (h *headers) clean(req *http.Request) *http.Request {
	believed := h.believed(req.RemoteAddr)
	drop := func(name string) bool { return h.drop(strings.ToLower(name), believed) }
	for name := range req.Header {
		if drop(name) {
			cleaned := *req
			cleaned.Header = req.Header.Clone()
			for name := range cleaned.Header {
				if drop(name) {
					delete(cleaned.Header, name)
				}
			}
			return &cleaned
		}
	}
	return req
}

func (h *headers) drop(name string, believed bool) bool {
	if key, ok := strings.CutPrefix(name, metadataHeader); ok {
		return reserved(key) || h.fromCookies[key]
	}
	if h.fromCookies[name] && h.incoming[textproto.CanonicalMIMEHeaderKey(name)] != "" {
		return true
	}
	return !believed && (name == "forwarded" || strings.HasPrefix(name, "x-forwarded-"))
}

var metadataHeader = strings.ToLower(runtime.MetadataHeaderPrefix)

// believed reports whether the client is one of the trusted proxies.
func (h *headers) believed(remote string) bool {
	if len(h.trusted) == 0 {
		return false
	}
	client, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	address := client.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(h.trusted, func(p netip.Prefix) bool { return p.Contains(address) })
}
