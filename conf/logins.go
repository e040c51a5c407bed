package conf

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	hashHint   = `write what "printf %s KEY | sha256sum" prints`
	jwksHint   = `write one such as "https://issuer.example.com/jwks.json"`
	issuerHint = "write what tokens have as iss, or any to take those of whoever has one of the keys"
)

// asymmetric are the algorithms whose verifier has a public key.
var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// sharedSecrets are the algorithms whose verifier could sign as well.
var sharedSecrets = []string{"HS256", "HS384", "HS512"}

// mtlsIdentities are the valid values of MTLS.Identity.
var mtlsIdentities = []string{IdentitySANURI, IdentitySANDNS, IdentityCommonName, IdentityFingerprint}

// callerName is how callers are named by keys: no control characters, and no space at
// the ends.
var callerName = regexp.MustCompile(`^[^\pC\pZ*]([^\pC\p{Zl}\p{Zp}*]{0,61}[^\pC\pZ*])?$`)

func (v *validator) apiKeys(path string, a *APIKeys) {
	if a == nil {
		v.notNull(path)
		return
	}
	v.readableKey(KeyPath(path, "header"), a.Header)
	v.notBlank(KeyPath(path, "file"), a.File, pathHint)
	names, hashes := map[string]string{}, map[string]string{}
	for i, key := range a.Keys {
		v.apiKey(ItemPath(KeyPath(path, "keys"), i), key, names, hashes)
	}
	v.exactlyOne(path, option{"file", a.File != ""}, option{"keys", len(a.Keys) > 0})
}

// apiKey checks a key. names and hashes hold the path of each so far.
func (v *validator) apiKey(path string, key APIKey, names, hashes map[string]string) {
	name, hash := KeyPath(path, "name"), KeyPath(path, "sha256")
	switch {
	case v.isBroken(name):
	case key.Name == "":
		v.badField(name, "must not be empty", "write who has the key")
	case key.Name == IdentityAnonymous:
		v.badValue(name, key.Name, "is what calls without an identity are called", "write another name")
	case !callerName.MatchString(key.Name):
		v.badValue(name, key.Name, "is not a name for a caller",
			`write one line of 1 to 63 characters, with no space at the ends and no "*"`)
	default:
		v.once(name, key.Name, key.Name, names)
	}
	switch sum, err := hex.DecodeString(string(key.SHA256)); {
	case v.isBroken(hash):
	case key.SHA256 == "":
		v.badField(hash, "must not be empty", hashHint)
	case err != nil || len(sum) != 32:
		v.badField(hash, "is not a SHA-256 in 64 hexadecimal digits; keys themselves do not belong here", hashHint)
	default:
		v.once(hash, "", string(sum), hashes)
	}
}

func (v *validator) jwt(path string, j *JWT) {
	if j == nil {
		v.notNull(path)
		return
	}
	v.readableKey(KeyPath(path, "header"), j.Header)
	v.jwks(KeyPath(path, "jwks"), &j.JWKS)
	v.notEmpty(KeyPath(path, "issuer"), j.Issuer, issuerHint)
	v.texts(KeyPath(path, "audiences"), j.Audiences, "write whom tokens are for")
	v.algorithms(KeyPath(path, "algorithms"), j)
	v.notEmpty(KeyPath(path, "identity"), j.Identity, claimHint)
	between(v, KeyPath(path, "leeway"), j.Leeway, 0, maxLeeway)
	v.claimKeys(KeyPath(path, "claims"), j.Claims)
}

func (v *validator) jwks(path string, j *JWKS) {
	ca := KeyPath(path, "ca")
	v.notBlank(KeyPath(path, "file"), j.File, pathHint)
	v.notBlank(KeyPath(path, "url"), j.URL, jwksHint)
	v.notBlank(ca, j.CA, pathHint)
	switch {
	case j.URL != "":
		v.jwksURL(KeyPath(path, "url"), j.URL, ca, j.CA)
	case j.File != "" && j.CA != "" && !v.isBroken(ca):
		v.badField(ca, "is for url only", "remove it")
	}
	between(v, KeyPath(path, "refresh"), j.Refresh, minJWKSRefresh, maxJWKSRefresh)
	v.exactlyOne(path, option{"file", j.File != ""}, option{"url", j.URL != ""})
}

// jwksURL checks that nobody in between can put in keys.
func (v *validator) jwksURL(path, text, caPath, ca string) {
	u, ok := v.url(path, text, jwksHint)
	v.caOf(caPath, ca, u)
	if ok && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		v.badValue(path, text, "is not encrypted, so that whoever is in between could put in keys", "write https://")
	}
}

// isLoopback tells whether a host is this machine, and always will be.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// caOf checks that certificates are for a URL that is encrypted; nil for one that is
// not valid.
func (v *validator) caOf(path, ca string, u *url.URL) {
	if ca != "" && u != nil && u.Scheme == "http" && !v.isBroken(path) {
		v.badField(path, "is for https only", "write https:// above, or remove it")
	}
}

// algorithms checks how tokens may be signed: never not at all, and with a secret that
// is shared only if that is in a file.
func (v *validator) algorithms(path string, j *JWT) {
	if len(j.Algorithms) == 0 {
		v.require(path, "at least one is needed", "add one, such as RS256")
	}
	seen := map[string]string{}
	for i, name := range j.Algorithms {
		path := ItemPath(path, i)
		switch {
		case v.isBroken(path):
		case strings.EqualFold(name, "none"):
			v.badValue(path, name, "is no signature, so that anybody could be anyone", "remove it")
		case slices.Contains(sharedSecrets, name) && j.JWKS.URL != "":
			v.badValue(path, name, "is signed with a secret, which cannot be at a URL", "remove it, or use jwks.file")
		default:
			v.oneOf(path, name, slices.Concat(asymmetric, sharedSecrets))
			v.once(path, name, name, seen)
		}
	}
}

// claimKeys checks the keys of metadata that get claims.
func (v *validator) claimKeys(path string, claims map[string]string) {
	seen := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(claims)) {
		path := KeyPath(path, key)
		problem, hint := givenKeyProblem(key)
		switch {
		case v.isBroken(path):
		case problem != "":
			v.badField(path, problem, hint)
		case strings.TrimSpace(claims[key]) == "":
			v.badField(path, "must not be empty", claimHint)
		default:
			v.once(path, "", strings.ToLower(key), seen)
		}
	}
}

func (v *validator) mtls(path string, m *MTLS) {
	if m == nil {
		v.notNull(path)
		return
	}
	v.oneOf(KeyPath(path, "identity"), m.Identity, mtlsIdentities)
}
