package conf

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	gatewayPrefixHint = `write one such as "/api", or remove it`
	originHint        = `write one such as "https://app.example.com", or "*" for any`
)

func (v *validator) gateway(path string, g *Gateway) {
	if g == nil {
		v.notNull(path)
		return
	}
	v.schemaRefs(KeyPath(path, "schemas"), g.Schemas)
	v.gatewayPrefix(KeyPath(path, "prefix"), g.Prefix)
	if g.OpenAPI != "" {
		v.urlPath(KeyPath(path, "openapi"), g.OpenAPI, `write one such as "/openapi.json", or "" for none`)
	}
	v.envelope(KeyPath(path, "envelope"), g.Envelope)
	v.readableKeys(KeyPath(path, "request_headers"), g.RequestHeaders)
	v.readableKeys(KeyPath(path, "response_headers"), g.ResponseHeaders)
	v.readableKeys(KeyPath(path, "response_trailers"), g.ResponseTrailers)
	v.cookies(KeyPath(path, "cookies"), g.Cookies)
	v.httpStatuses(KeyPath(path, "codes"), g.Codes)
	between(v, KeyPath(path, "body_limit"), g.BodyLimit, 1, maxMessage)
	v.webSocket(KeyPath(path, "websocket"), &g.WebSocket)
	v.zeroOr(KeyPath(path, "keepalive"), g.Keepalive, minPing, maxPing, "0 is never")
}

func (v *validator) schemaRefs(path string, names []string) {
	switch {
	case len(names) == 0 && len(v.schemaNames) == 0:
		v.require(path, "at least one is needed", "add its name, and the schema under schemas, as conf/proxy.yaml does")
	case len(names) == 0:
		v.require(path, "at least one is needed", "add its name; schemas: "+enumerate(v.schemaNames))
	}
	seen := map[string]string{}
	for i, name := range names {
		path := ItemPath(path, i)
		_, known := v.config.Schemas[name]
		switch {
		case v.isBroken(path) || v.isBroken("schemas"):
		case known:
			v.once(path, name, name, seen)
		case len(v.schemaNames) == 0:
			v.badField(path, "names a schema, and there are none", "add one under schemas, as conf/proxy.yaml does")
		default:
			v.choice(path, name, "is not a schema", "schemas", v.schemaNames)
		}
	}
}

func (v *validator) gatewayPrefix(path, prefix string) {
	if prefix == "" {
		return
	}
	if v.urlPath(path, prefix, gatewayPrefixHint) && strings.HasSuffix(prefix, "/") {
		v.badValue(path, prefix, `ends with "/"`, gatewayPrefixHint)
	}
}

func (v *validator) envelope(path string, e *Envelope) {
	if e == nil {
		v.notNull(path)
		return
	}
	v.oneOf(KeyPath(path, "status"), e.Status, []string{EnvelopeMapped, EnvelopeOK})
}

// cookieName is a token: RFC 6265 section 4.1.1.
var cookieName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (v *validator) cookies(path string, cookies map[string]string) {
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(cookies)) {
		path, key := KeyPath(path, name), cookies[name]
		if !v.isBroken(path) && !cookieName.MatchString(name) {
			v.badField(path, "is not the name of a cookie", "write letters, digits and marks without a space")
			continue
		}
		if v.givenKey(path, key); !v.isBroken(path) {
			v.once(path, key, strings.ToLower(key), seen)
		}
	}
}

// httpStatuses checks which status stands for a code.
func (v *validator) httpStatuses(path string, byCode map[string]int) {
	for _, code := range slices.Sorted(maps.Keys(byCode)) {
		path := KeyPath(path, code)
		switch {
		case v.isBroken(path):
		case code == "OK":
			v.badField(path, "is how a call succeeds", "codes: "+enumerate(codeNames))
		case Code(code).Number() == 0 && v.full(): // the nearest of many names takes a while to find
			v.more = true
		case Code(code).Number() == 0:
			v.badField(path, "is not the name of a gRPC status code", didYouMean(code, "codes", codeNames))
		default:
			between(v, path, byCode[code], minHTTPStatus, maxHTTPStatus)
		}
	}
}

func (v *validator) webSocket(path string, w *WebSocket) {
	seen := map[string]string{}
	for i, origin := range w.Origins {
		path := ItemPath(KeyPath(path, "origins"), i)
		switch problem := originProblem(origin); {
		case v.isBroken(path):
		case origin == "":
			v.badField(path, "must not be empty", originHint)
		case problem != "":
			v.badValue(path, origin, problem, originHint)
		default:
			v.once(path, origin, strings.ToLower(origin), seen)
		}
	}
	between(v, KeyPath(path, "message_limit"), w.MessageLimit, 1, maxMessage)
	v.zeroOr(KeyPath(path, "ping"), w.Ping, minPing, maxPing, "0 is never")
}

// originProblem returns what is wrong with the origin of a page: RFC 6454 section 6.2
// has the form.
func originProblem(origin string) string {
	if origin == "*" {
		return ""
	}
	u, err := url.Parse(origin)
	if problem := urlProblem(u, err); problem != "" {
		return problem
	}
	if u.Path != "" || u.User != nil {
		return "has more than a scheme, a host and a port"
	}
	return ""
}
