package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

const (
	defaultTokenHeader = "authorization"
	defaultClaim       = "sub"

	// AnyIssuer is the JWT.Issuer that takes tokens of whoever has one of the keys.
	AnyIssuer = "any"
)

// The algorithms that tokens may be signed by (RFC 7518 section 3.1, RFC 8037).
var (
	asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	symmetric  = []string{"HS256", "HS384", "HS512"}
)

// JWT says how calls are known by JSON Web Tokens.
type JWT struct {
	// Header is the key of metadata that has the token, behind "Bearer " or alone; "" for
	// "authorization".
	Header string
	// JWKS is where the keys are that tokens are verified by.
	JWKS JWKS
	// Issuer is who tokens must be from, or AnyIssuer. It must be set.
	Issuer string
	// Audiences are whom tokens must be for, one of them; none for anybody.
	Audiences []string
	// Algorithms are how tokens may be signed; none for all that have a public key.
	// "HS256" and the like need JWKS.File; "none" is never one.
	Algorithms []string
	// Identity is the claim that names the caller, "" for "sub". Its value is text.
	Identity string
	// Leeway is how far the clocks of issuer and proxy may be apart.
	Leeway time.Duration
	// Claims are keys of metadata for the backend, and the claims that are their values: a
	// list gives several, and an object JSON. What the client has sent under these keys
	// never reaches the backend.
	Claims map[string]string
	// Optional lets calls without a token go on, with the identity they have, if any.
	// Those with one that is not valid are refused all the same.
	Optional bool
	// Remove keeps the token from the backend.
	Remove bool
	// Logger is told of keys. It must be set.
	Logger *slog.Logger
}

// Tokens is a link that knows calls by JSON Web Tokens. Its Guard may be called
// concurrently.
type Tokens struct {
	options    JWT
	header     string
	identity   string
	algorithms []jose.SignatureAlgorithm
	shared     bool // some of algorithms have a secret as their key
	claims     []claimKey

	keys   atomic.Pointer[keySet] // nil before the first
	file   *watched               // nil for a URL
	come   chan struct{}          // closed with the first
	first  sync.Once              // of those who close it
	remote *remote                // nil for a file
	stop   func()
}

// claimKey is a key of metadata that has a claim as its value.
type claimKey struct{ key, claim string }

// NewJWT returns the link. Keys of a file are there then; those of a URL are fetched
// beside calls, which are UNAVAILABLE until they have come. An error names the option,
// or the file, that cannot be used. Nothing runs, and no URL is asked, before Start.
func NewJWT(o JWT) (*Tokens, error) {
	t := &Tokens{options: o, identity: o.Identity, come: make(chan struct{}), stop: func() {}}
	if t.identity == "" {
		t.identity = defaultClaim
	}
	if o.Issuer == "" {
		return nil, fmt.Errorf("issuer: it is not set; write what tokens have as iss, or %q", AnyIssuer)
	}
	var err error
	if t.header, err = headerKey(o.Header, defaultTokenHeader); err != nil {
		return nil, err
	}
	if err := t.setAlgorithms(); err != nil {
		return nil, err
	}
	if err := t.setClaims(); err != nil {
		return nil, err
	}
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	return t, nil
}

func (t *Tokens) setAlgorithms() error {
	names := t.options.Algorithms
	if len(names) == 0 {
		names = asymmetric
	}
	for _, name := range names {
		isShared := slices.Contains(symmetric, name)
		switch {
		case !isShared && !slices.Contains(asymmetric, name):
			return fmt.Errorf("algorithms: %q is none for tokens; choose of %s", name, strings.Join(asymmetric, ", "))
		case isShared && t.options.JWKS.File == "":
			return fmt.Errorf("algorithms: %q is signed with a secret, which cannot be at a URL; use a file", name)
		}
		t.shared = t.shared || isShared
		t.algorithms = append(t.algorithms, jose.SignatureAlgorithm(name))
	}
	return nil
}

func (t *Tokens) setClaims() error {
	for _, key := range slices.Sorted(maps.Keys(t.options.Claims)) {
		if err := checkKey(key); err != nil {
			return fmt.Errorf("claims: %w", err)
		}
		t.claims = append(t.claims, claimKey{strings.ToLower(key), t.options.Claims[key]})
	}
	return nil
}

// open has the keys of a file come.
func (t *Tokens) open() (err error) {
	switch j := &t.options.JWKS; {
	case (j.File == "") == (j.URL == ""):
		return errors.New("the keys come from a file or from a URL; set one of the two")
	case j.File != "":
		t.file, err = openWatched(j.File, t.options.Logger, t.take)
	default:
		t.remote, err = newRemote(j, t.options.Logger, t.take)
	}
	return err
}

// Start begins to watch the file of the keys, or to fetch them. Close must be called then.
// It may be called once.
func (t *Tokens) Start() {
	if t.file != nil {
		t.stop = t.file.start()
	} else {
		t.stop = t.remote.start()
	}
}

// take has data be the keys in force. Tokens that others have verified are none any
// more.
func (t *Tokens) take(data []byte) error {
	keys, err := parseKeySet(data, t.shared)
	if err != nil {
		return err
	}
	t.keys.Store(keys)
	t.first.Do(func() { close(t.come) })
	return nil
}

// Await returns when there are keys, or an error when ctx ends first. Until then calls
// with a token are UNAVAILABLE.
func (t *Tokens) Await(ctx context.Context) error {
	select {
	case <-t.come:
		return nil
	case <-ctx.Done():
		return errors.New("the keys to verify tokens by have not come yet; calls with a token are answered with UNAVAILABLE for now")
	}
}

// Close ends the reading of keys. Those that are there stay in force.
func (t *Tokens) Close() { t.stop() }

// Guard is the link's intercept.Guard: it sets the call's identity, of KindJWT, and
// metadata for the backend.
func (t *Tokens) Guard(c *intercept.Call) error {
	value, count := credential(c, t.header)
	switch {
	case count == 0 && t.options.Optional:
		return t.removeClaims(c)
	case count == 0:
		return unauthenticated(`the call has no token; send one as metadata %q: "Bearer TOKEN"`, t.header)
	case count > 1:
		return unauthenticated("the call has several values of %q; send one token", t.header)
	}
	raw, problem := parseBearer(value)
	if problem != "" {
		return t.notBearer(problem)
	}
	token, err := t.verified(raw)
	if err != nil {
		return err
	}
	return t.admit(c, token)
}

// verified returns what a token says, if it is valid now.
func (t *Tokens) verified(raw string) (*token, error) {
	keys := t.keys.Load()
	if keys == nil {
		return nil, unavailable("the keys to verify tokens by have not come yet; try again")
	}
	var buffer [1024]byte // which stays on the stack, and is enough for most
	hash := sha256.Sum256(append(buffer[:0], raw...))
	if known := keys.tokens.get(hash); known != nil {
		return known, known.checkTime(time.Now(), t.options.Leeway)
	}
	token, err := t.verify(keys, raw)
	if err != nil {
		return nil, err
	}
	token.hash = hash
	keys.tokens.put(token)
	return token, nil
}

func (t *Tokens) notBearer(problem string) error {
	return unauthenticated(`%q %s; send "Bearer TOKEN"`, t.header, problem)
}

// admit tells the call and the backend who it is.
func (t *Tokens) admit(c *intercept.Call, token *token) error {
	c.SetIdentity(token.identity)
	for i := range t.claims {
		if err := c.Header().Set(t.claims[i].key, token.metadata[i]...); err != nil {
			return err
		}
	}
	if !t.options.Remove {
		return nil
	}
	return c.Header().Remove(t.header)
}

// removeClaims has the backend not take for a claim what a client without a token has
// sent.
func (t *Tokens) removeClaims(c *intercept.Call) error {
	for i := range t.claims {
		if _, count := credential(c, t.claims[i].key); count == 0 {
			continue // asking for Header costs something
		}
		if err := c.Header().Remove(t.claims[i].key); err != nil {
			return err
		}
	}
	return nil
}

// unavailable is how a call ends whose token may be valid.
func unavailable(message string) error {
	return intercept.Refuse(stream.CredentialsUnavailable, stream.Unavailable, message)
}
