package auth

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/metadata"
)

const (
	scheme   = "Bearer" // RFC 6750 section 2.1
	maxToken = 16 << 10 // bytes
)

// token is what a token says that has been verified. It is read-only, but for used.
type token struct {
	hash     [sha256.Size]byte
	identity intercept.Identity
	metadata [][]string // the values for the keys of Tokens.claims
	expires  time.Time
	used     atomic.Bool // since the last look of the one that forgets tokens
}

// checkTime returns an error once the token has expired.
func (k *token) checkTime(now time.Time, leeway time.Duration) error {
	if now.Add(-leeway).After(k.expires) {
		return unauthenticated("the token expired at %s; get a new one", k.expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// parseBearer returns the token in a value of metadata, or what is wrong with that. What
// it returns may have any form; see isMalformed.
func parseBearer(value string) (raw, problem string) {
	raw = strings.Trim(value, " ")
	before, after, found := strings.Cut(raw, " ")
	switch {
	case strings.EqualFold(before, scheme):
		raw = strings.TrimLeft(after, " ")
	case found:
		return "", "has credentials of another kind than Bearer"
	}
	switch {
	case raw == "":
		return "", "has no token"
	case len(raw) > maxToken:
		return "", fmt.Sprintf("has a token of more than %d KiB", maxToken>>10)
	}
	return raw, ""
}

// isMalformed reports whether a token has not the form of one that is signed: three
// parts in base64url (RFC 7515 section 3.1). Several that some proxy has made one value
// of have a comma.
func isMalformed(raw string) bool {
	return strings.Count(raw, ".") != 2 || strings.ContainsFunc(raw, isNoTokenRune)
}

func isNoTokenRune(r rune) bool {
	isAlphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !isAlphanumeric && r != '-' && r != '_' && r != '.'
}

// verify checks a token's signature, and what it says.
func (t *Tokens) verify(keys *keySet, raw string) (*token, error) {
	if isMalformed(raw) {
		return nil, t.notBearer("has no JSON Web Token that is signed, or more than that")
	}
	signed, err := jose.ParseSignedCompact(raw, t.algorithms)
	if err != nil {
		return nil, t.unparsable(err)
	}
	head := signed.Signatures[0].Protected
	if _, critical := head.ExtraHeaders["crit"]; critical { // RFC 7515 section 4.1.11
		return nil, unauthenticated("the token has critical extensions, none of which are known here")
	}
	payload, known := keys.verify(signed, head.KeyID, head.Algorithm)
	switch {
	case payload != nil:
		return t.read(payload)
	case known:
		return nil, unauthenticated("the token's signature is not valid, or not by a key for alg %s", shown(head.Algorithm))
	case t.remote != nil && t.remote.want():
		return nil, unavailable("the token is signed with a key that is being asked for; try again")
	}
	return nil, unauthenticated("the token is signed with a key that is not known: kid %s, alg %s",
		shown(head.KeyID), shown(head.Algorithm))
}

// unparsable says why a token could not be parsed.
func (t *Tokens) unparsable(err error) error {
	if other, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
		return unauthenticated("the token is signed by %s, which is none of %s", shown(string(other.Got)), t.algorithmNames())
	}
	return unauthenticated("the token is not a JSON Web Token that is signed")
}

func (t *Tokens) algorithmNames() string {
	names := make([]string, len(t.algorithms))
	for i, algorithm := range t.algorithms {
		names[i] = string(algorithm)
	}
	return strings.Join(names, ", ")
}

// read checks what a token says that somebody has signed.
func (t *Tokens) read(payload []byte) (*token, error) {
	var registered jwt.Claims
	var all map[string]any
	d := json.NewDecoder(bytes.NewReader(payload))
	d.SetNumberType(json.UnmarshalIntOrFloat) // 64 bits stay what they are
	if json.Unmarshal(payload, &registered) != nil || d.Decode(&all) != nil {
		return nil, unauthenticated("what the token says is not a JSON object, or a registered claim in it is not as it should be")
	}
	if err := t.check(&registered); err != nil {
		return nil, err
	}
	name, _ := all[t.identity].(string)
	if !hasName(name) {
		return nil, unauthenticated("the token has no usable claim %q, by which callers are known here", t.identity)
	}
	values, err := t.claimValues(all)
	if err != nil {
		return nil, err
	}
	return &token{
		identity: intercept.Identity{Kind: KindJWT, Name: name, Claims: all}, metadata: values, expires: registered.Expiry.Time(),
	}, nil
}

// check checks the registered claims (RFC 7519 section 4.1).
func (t *Tokens) check(claims *jwt.Claims) error {
	if claims.Expiry == nil {
		return unauthenticated("the token has no exp, so that it would be valid for ever; get one that expires")
	}
	now, wanted := time.Now(), jwt.Expected{AnyAudience: t.options.Audiences}
	if t.options.Issuer != AnyIssuer {
		wanted.Issuer = t.options.Issuer
	}
	switch err := claims.ValidateWithLeeway(wanted.WithTime(now), t.options.Leeway); {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrExpired):
		return (&token{expires: claims.Expiry.Time()}).checkTime(now, t.options.Leeway)
	case errors.Is(err, jwt.ErrNotValidYet):
		return unauthenticated("the token is not valid before %s", claims.NotBefore.Time().UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return unauthenticated("the token says to be from the future, of %s", claims.IssuedAt.Time().UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return unauthenticated("the token is of the issuer %s, which is not the one for these calls", shown(claims.Issuer))
	default:
		return unauthenticated("the token is for another audience: its aud is %s", shown(strings.Join(claims.Audience, ", ")))
	}
}

// claimValues returns the values for the keys of metadata that get claims.
func (t *Tokens) claimValues(all map[string]any) ([][]string, error) {
	values := make([][]string, len(t.claims))
	for i, k := range t.claims {
		values[i] = texts(all[k.claim])
		if new(metadata.Metadata).Set(k.key, values[i]...) != nil {
			return nil, unauthenticated(
				"the claim %q of the token is not printable ASCII, and the backend is to get it as metadata %q", k.claim, k.key)
		}
	}
	return values, nil
}

// texts returns a claim as values of metadata.
func texts(claim any) []string {
	switch claim := claim.(type) {
	case nil:
		return nil
	case []any:
		values := make([]string, 0, len(claim))
		for _, one := range claim {
			values = append(values, text(one))
		}
		return values
	default:
		return []string{text(claim)}
	}
}

func text(claim any) string {
	if s, ok := claim.(string); ok {
		return s
	}
	b, err := json.Marshal(claim)
	if err != nil {
		return "" // what comes from JSON always has a form in it
	}
	return string(b)
}

// shown is what a token has, or has not, as messages show it.
func shown(s string) string {
	if s == "" {
		return "none"
	}
	return quote(s)
}
