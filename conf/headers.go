package conf

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
)

// reasonKey is the trailer that marks what the proxy answers itself.
const reasonKey = "x-kitexproxy-error"

// protocolKeys are those that HTTP/2 (RFC 9113 section 8.2.2) and gRPC use
// themselves, besides what begins with "grpc-".
var protocolKeys = []string{
	"connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection", "te",
	"transfer-encoding", "upgrade",
}

// passedKeys begin with "grpc-" and are metadata all the same.
var passedKeys = []string{"grpc-previous-rpc-attempts", "grpc-retry-pushback-ms", "grpc-tags-bin", "grpc-trace-bin"}

var headerKeys = keyKind{problem: headerKeyProblem, fold: strings.ToLower}

// headerKeyProblem returns what is wrong with a key that is to be changed.
func headerKeyProblem(key string) (problem, hint string) {
	if reserved := reservedKey(key); reserved != "" {
		return reserved + ", and not for routes to change", "remove it"
	}
	return metadataKeyProblem(key)
}

// reservedKey returns why a key is not for operators to give values to; "" if it is.
func reservedKey(key string) string {
	lower := strings.ToLower(key)
	switch {
	case strings.HasPrefix(key, ":"):
		return "is a pseudo-header"
	case lower == reasonKey:
		return "is the proxy's own"
	case strings.HasPrefix(lower, "grpc-") || slices.Contains(protocolKeys, lower):
		return "is the protocol's"
	}
	return ""
}

// givenKeyProblem returns what is wrong with a key that gets text from elsewhere.
func givenKeyProblem(key string) (problem, hint string) {
	const another = "write another key"
	switch reserved := reservedKey(key); {
	case reserved != "":
		return reserved + ", and no key for this", another
	case strings.HasSuffix(strings.ToLower(key), "-bin"):
		return "is a key for base64, and this is text", another
	}
	return metadataKeyProblem(key)
}

// givenKey checks a key of metadata that gets text from elsewhere.
func (v *validator) givenKey(path, key string) {
	if v.isBroken(path) {
		return
	}
	if key == "" {
		v.badField(path, "must not be empty", "write a key of metadata")
		return
	}
	if problem, hint := givenKeyProblem(key); problem != "" {
		v.badValue(path, key, problem, hint)
	}
}

// readableKeys checks a list of keys that something depends on, each there once.
func (v *validator) readableKeys(path string, keys []string) {
	seen := map[string]string{}
	for i, key := range keys {
		path := ItemPath(path, i)
		if v.readableKey(path, key); !v.isBroken(path) {
			v.once(path, key, strings.ToLower(key), seen)
		}
	}
}

// readableKey checks a key of metadata that something depends on.
func (v *validator) readableKey(path, key string) {
	if v.isBroken(path) {
		return
	}
	lower := strings.ToLower(key)
	problem, hint := metadataKeyProblem(key)
	switch {
	case key == "":
		v.badField(path, "must not be empty", "write a key of metadata")
	case problem != "":
		v.badValue(path, key, problem, hint)
	case slices.Contains(passedKeys, lower):
	case strings.HasPrefix(lower, "grpc-") || slices.Contains(protocolKeys, lower):
		v.badValue(path, key, "is the protocol's, and never among the metadata of a call", "write another key")
	}
}

// headerChanges checks that no key is in one map twice, or removed and given
// values, and that values can be sent.
func (v *validator) headerChanges(path string, h *HeaderChanges) {
	set, add := map[string]string{}, map[string]string{}
	v.headerValues(KeyPath(path, "set"), h.Set, set)
	v.headerValues(KeyPath(path, "add"), h.Add, add)
	maps.Copy(set, add)
	v.keys(KeyPath(path, "remove"), h.Remove, headerKeys, set)
}

// headerValues checks a map from keys to values. seen holds the path of each key
// so far.
func (v *validator) headerValues(path string, byKey, seen map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		path, value := KeyPath(path, key), byKey[key]
		if v.isBroken(path) {
			continue
		}
		if problem, hint := headerKeyProblem(key); problem != "" {
			v.badField(path, problem, hint)
			continue
		}
		if problem, hint := headerValueProblem(key, value); problem != "" {
			v.badValue(path, value, problem, hint)
			continue
		}
		v.once(path, "", strings.ToLower(key), seen)
	}
}

// headerValueProblem returns what is wrong with the value of a key:
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md has the forms.
func headerValueProblem(key, value string) (problem, hint string) {
	switch {
	case strings.HasSuffix(strings.ToLower(key), "-bin"):
		if !isBase64(value) {
			return "is not base64, which keys that end in -bin take", `write one such as "AQID", or another key`
		}
	case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }):
		return "has characters that are not printable ASCII", "write base64 under a key that ends in -bin"
	case strings.Trim(value, " ") != value:
		return "begins or ends with a space, which HTTP/2 does not allow", "remove it"
	}
	return "", ""
}

// isBase64 takes base64 with and without padding, as gRPC does.
func isBase64(value string) bool {
	if strings.ContainsAny(value, "\r\n") { // which the decoder skips
		return false
	}
	if _, err := base64.StdEncoding.DecodeString(value); err == nil {
		return true
	}
	_, err := base64.RawStdEncoding.DecodeString(value)
	return err == nil
}
