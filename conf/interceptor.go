package conf

// Interceptor is a link around calls. It does something in the places that lists of
// interceptors name it in, in their order. Exactly one of its fields is set.
type Interceptor struct {
	// APIKeys names callers by keys that they were given.
	APIKeys *APIKeys `yaml:"api_keys,omitempty"`
	// JWT names callers by signed tokens.
	JWT *JWT `yaml:"jwt,omitempty"`
	// MTLS names callers by their TLS certificates.
	MTLS *MTLS `yaml:"mtls,omitempty"`
	// Authorize says who may call what. The first rule that matches decides; calls that
	// none matches end with PERMISSION_DENIED. At least one.
	Authorize []AccessRule `yaml:"authorize,omitempty"`
	// RequestID gives calls an ID.
	RequestID *RequestID `yaml:"request_id,omitempty"`
	// RateLimit bounds calls and messages by time.
	RateLimit *RateLimit `yaml:"rate_limit,omitempty"`
	// ConcurrencyLimit bounds the calls that are under way at a time.
	ConcurrencyLimit *ConcurrencyLimit `yaml:"concurrency_limit,omitempty"`
}

// APIKeys names callers by the keys that come with their calls. Only hashes of keys
// are configured. Calls with a key that is not known end with UNAUTHENTICATED. One of
// File and Keys is set.
type APIKeys struct {
	// Header is the key of metadata that has the caller's key, lower-case if it comes
	// from a file. Default x-api-key.
	Header string `yaml:"header"`
	// File is a YAML or JSON file with a list as Keys. It is read again when it changes.
	File string `yaml:"file,omitempty"`
	// Keys are the keys, by their hashes. No name and no hash is there twice.
	Keys []APIKey `yaml:"keys,omitempty"`
	// Optional lets calls without a key go on, with no identity. Default false: they end
	// with UNAUTHENTICATED.
	Optional bool `yaml:"optional,omitempty"`
	// Remove keeps the key from backends. Default true.
	Remove bool `yaml:"remove"`
}

// APIKey is a key that a caller has been given.
type APIKey struct {
	// Name is the caller's identity: one line, up to 63 characters.
	Name string `yaml:"name"`
	// SHA256 is the SHA-256 of the key in 64 hexadecimal digits, of either case:
	// printf %s KEY | sha256sum.
	SHA256 Secret `yaml:"sha256"`
}

// JWT names callers by JSON Web Tokens (RFC 7519) that an issuer has signed. Calls
// with one that is not valid, or has expired, end with UNAUTHENTICATED.
type JWT struct {
	// Header is the key of metadata that has the token, behind "Bearer " or alone;
	// lower-case if it comes from a file. Default authorization.
	Header string `yaml:"header"`
	// JWKS is where the keys are that tokens are verified by.
	JWKS JWKS `yaml:"jwks"`
	// Issuer is who tokens must be from (the claim iss), or IssuerAny. Required.
	Issuer string `yaml:"issuer"`
	// Audiences are whom tokens must be for, one of them (the claim aud). Default none:
	// for anybody.
	Audiences []string `yaml:"audiences,omitempty"`
	// Algorithms are how tokens may be signed (RFC 7518 section 3.1, RFC 8037), at least
	// one. HS256, HS384 and HS512 need JWKS.File. Default: all that have a public key.
	Algorithms []string `yaml:"algorithms"`
	// Identity is the claim that names the caller; its value is text. Default sub.
	Identity string `yaml:"identity"`
	// Leeway is how far the clocks of issuer and proxy may be apart: 0 to 10m. Default
	// 30s.
	Leeway Duration `yaml:"leeway"`
	// Claims are the keys of metadata that the backend gets, and the claims that are
	// their values. What a client has sent under such a key is removed. Keys are
	// lower-case if they come from a file.
	Claims map[string]string `yaml:"claims,omitempty"`
	// Optional lets calls without a token go on, with no identity. Default false: they
	// end with UNAUTHENTICATED.
	Optional bool `yaml:"optional,omitempty"`
	// Remove keeps the token from backends. Default false.
	Remove bool `yaml:"remove,omitempty"`
}

// IssuerAny is the JWT.Issuer that takes tokens of whoever has one of the keys.
const IssuerAny = "any"

// JWKS is where a JSON Web Key Set (RFC 7517) is; one of File and URL is set.
type JWKS struct {
	// File is a JSON file with the set. It is read again when it changes.
	File string `yaml:"file,omitempty"`
	// URL is where the set is asked for: https, or http on this machine.
	URL string `yaml:"url,omitempty"`
	// Refresh is how often URL is asked again: 1s to 24h. Default 5m.
	Refresh Duration `yaml:"refresh"`
	// CA is a PEM file with the certificates that the one of URL is verified by. With
	// https only. Default "": the system's.
	CA string `yaml:"ca,omitempty"`
}

// MTLS names callers by the certificate that their connection was opened with. What
// those are verified by is ListenerTLS.ClientCA.
type MTLS struct {
	// Identity says what of a certificate names the caller: IdentitySANURI,
	// IdentitySANDNS, IdentityCommonName or IdentityFingerprint. Required.
	Identity string `yaml:"identity"`
	// Optional lets calls without such a certificate go on, with no identity. Default
	// false: they end with UNAUTHENTICATED.
	Optional bool `yaml:"optional,omitempty"`
}

// The values of MTLS.Identity.
const (
	// IdentitySANURI is the first URI among the subject's alternative names, as SPIFFE
	// has it.
	IdentitySANURI = "san-uri"
	// IdentitySANDNS is the first DNS name among them.
	IdentitySANDNS = "san-dns"
	// IdentityCommonName is the common name of the subject.
	IdentityCommonName = "common-name"
	// IdentityFingerprint is the SHA-256 of the certificate in lower-case hexadecimal
	// digits.
	IdentityFingerprint = "fingerprint"
)

// AccessRule says whether calls may go on that are as all of its conditions say. One
// without conditions matches every call, and is the last.
type AccessRule struct {
	// Methods are full method names, "/package.Service/Method", services,
	// "package.Service", packages with all below, "package.*", or "*"; the call's is
	// among them. Default: any.
	Methods []string `yaml:"methods,omitempty"`
	// Identities are who calls: an identity as an interceptor found it ("alice") or
	// behind the kind of that ("api_keys:alice"), the beginning of one ("spiffe://a/*"),
	// "*" for anyone with an identity, or IdentityAnonymous. Default: any, with or
	// without an identity.
	Identities []string `yaml:"identities,omitempty"`
	// Claims are what the caller's token must say: for each claim one of the values.
	// Callers without a token have none.
	Claims map[string][]string `yaml:"claims,omitempty"`
	// Allow is true if these calls may go on. False: they end with PERMISSION_DENIED, or
	// UNAUTHENTICATED without an identity.
	Allow bool `yaml:"allow"`
}

// IdentityAnonymous is the entry of AccessRule.Identities for calls without an
// identity.
const IdentityAnonymous = "anonymous"

func (r *AccessRule) takesAll() bool {
	return len(r.Methods)+len(r.Identities)+len(r.Claims) == 0
}

// RequestID gives calls an ID, which the backend and the access log get.
type RequestID struct {
	// Header is the key of metadata that has it, lower-case if it comes from a file.
	// Default x-request-id.
	Header string `yaml:"header"`
	// Trust keeps the ID of calls that come with one. Default false: all get a new one.
	Trust bool `yaml:"trust,omitempty"`
	// Response has the client get it, too, in the headers of the response. Default true.
	Response bool `yaml:"response"`
}

// RateLimit bounds how many calls, and messages of clients, there are in a time. One
// more ends its call with RESOURCE_EXHAUSTED, and says when to try again. One of Calls
// and Messages at least is set.
type RateLimit struct {
	// Calls is how many calls may begin within Per, up to 2147483647; 0 (the default): any
	// number.
	Calls int `yaml:"calls"`
	// Messages is how many messages clients may send within Per, in all their calls, up to
	// 2147483647; 0 (the default): any number.
	Messages int `yaml:"messages"`
	// Per is that time: 1ms to 24h. Default 1s.
	Per Duration `yaml:"per"`
	// Burst is how many may come at once after a pause, up to 2147483647, as long as they
	// come back within a year; 0 (the default): as many as within Per.
	Burst int `yaml:"burst"`
	// Key says which calls share a limit: see LimitKeyAll. Default LimitKeyAll.
	Key string `yaml:"key"`
	// Keys is how many limits there are at most, 1 to 1000000. A key is forgotten once all
	// of its limit is there again; keys that find no room share one more limit. Default
	// 10000.
	Keys int `yaml:"keys"`
}

// ConcurrencyLimit bounds how many calls are under way. One more ends at once, with
// RESOURCE_EXHAUSTED.
type ConcurrencyLimit struct {
	// Calls is how many, 1 to 2147483647.
	Calls int `yaml:"calls"`
	// Key says which calls share a limit: see LimitKeyAll. Default LimitKeyAll.
	Key string `yaml:"key"`
	// Keys is how many keys may have calls under way, 1 to 1000000; keys that find no room
	// share one more limit. Default 10000.
	Keys int `yaml:"keys"`
}

// The values of RateLimit.Key and ConcurrencyLimit.Key: what calls have in common that
// share a limit.
const (
	// LimitKeyAll is for one limit that all calls share.
	LimitKeyAll = "all"
	// LimitKeyIdentity is who calls. Calls without an identity share a limit.
	LimitKeyIdentity = "identity"
	// LimitKeyPeer is the client's IP address.
	LimitKeyPeer = "peer"
	// LimitKeyMethod is the full method name.
	LimitKeyMethod = "method"
	// LimitKeyMetadata stands before a key of metadata, which is lower-case if it comes
	// from a file: calls with the same value. Those without the key share a limit.
	LimitKeyMetadata = "metadata:"
)
