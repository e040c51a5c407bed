// Package function answers /function/NAME/sub/path?query with what the function of
// that name answers, as the providers of OpenFaaS do. Where a function is, a resolver
// says: at a URL that is always the same, at one that is picked for each call, or in
// this process.
//
// [NewHandlerFunc], [NewProxyClient], [NewProxyClientFromConfig] and [BaseURLResolver]
// are those of github.com/openfaas/faas-provider/proxy, for programs that have a
// provider. [New] makes the same handler with what a proxy on the open network needs:
// it believes nobody's X-Forwarded-For, and can tell a function that is slow from one
// that is not there.
//
// # What is passed on
//
// A request never leaves the URL that the resolver gave. It is sent to that scheme,
// host and port, the Host header included, and for a path at or below that URL's:
// what follows the name, in the very encoding it came in. Names are letters, digits,
// "-", "_" and ".", at most 253 of them, written without percent-encoding, and not "."
// or "..". These are answered 400, and longer names 414. So are paths which some server
// might take for another one above or beside (400):
//
//   - segments "." and "..", also as "%2e", between "%2f", or with a ";parameter" behind
//   - backslashes and control characters, also percent-encoded
//   - an empty segment directly behind the name, as in /function/NAME//host
//
// Everything else stays as it came: "%2f" remains "%2f", and "//" further behind "//". A
// query is passed on byte for byte, unless it has a space, a control character or "#"
// in it (400), which no URL has. Of a request target in absolute form (RFC 9112 section
// 3.2.2), only path and query count.
//
// Headers cross in both directions except those of RFC 9110 section 7.6.1, and trailers
// too, requests' if they have been announced. Informational responses (1xx) cross only
// in streams. Redirects are the client's to follow, and so is decompressing.
//
// # Streams
//
// What asks for text/event-stream or application/x-ndjson, and WebSockets, may take as
// long as they like, and each piece is sent on as it comes. So is each piece of a
// response of unknown length, but within the timeout. A response that breaks off breaks
// off for the client as well: the handler panics with [http.ErrAbortHandler], as
// [httputil.ReverseProxy] does.
//
// A function may answer before it has got all of the request. An HTTP/1 client's
// connection is closed after that, and the client has half a second to notice.
package function
