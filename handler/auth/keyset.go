package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys  = 100 // of a set
	maxTries = 4   // signatures that a token may cost, if it does not name a key

	// The sizes of RSA keys, in bits: RFC 7518 section 3.3 says at least which, and
	// signatures by larger ones take long to verify.
	minRSA, maxRSA = 2048, 8192
)

// keySet is the keys of a JSON Web Key Set (RFC 7517), with the tokens that have been
// verified by them. It is replaced as a whole.
type keySet struct {
	keys   []key
	tokens *tokenCache
}

// key is a key to verify signatures by.
type key struct {
	id        string
	algorithm string // "" for any that is for such keys
	public    any    // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or []byte for a secret
}

// parseKeySet returns the keys that can be used, at least one; others, of other kinds
// and for other uses, are left out (RFC 7517 section 5). Secrets are taken if shared
// says so. An error says what is wrong with a set that has none.
func parseKeySet(data []byte, shared bool) (*keySet, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	switch err := json.Unmarshal(data, &raw); {
	case err != nil || len(raw.Keys) == 0:
		return nil, errors.New(`it is not a JSON Web Key Set, {"keys": [...]}, with a key in it`)
	case len(raw.Keys) > maxKeys:
		return nil, fmt.Errorf("it has more than %d keys", maxKeys)
	}
	set, unusable := &keySet{tokens: newTokenCache(maxTokens)}, error(nil)
	for i, data := range raw.Keys {
		k, err := parseKey(data, shared)
		if err != nil {
			unusable = fmt.Errorf("key %d: %w", i+1, err)
			continue
		}
		set.keys = append(set.keys, k)
	}
	if len(set.keys) == 0 {
		return nil, fmt.Errorf("none of its keys can be used: %w", unusable)
	}
	return set, nil
}

func parseKey(data []byte, shared bool) (key, error) {
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(data); err != nil {
		return key{}, errors.New("it is not a key, or one of another kind than RSA, EC (P-256, P-384, P-521) and Ed25519")
	}
	if parsed.Use != "" && parsed.Use != "sig" {
		return key{}, fmt.Errorf("it is for the use %q, not for signatures", parsed.Use)
	}
	k := key{id: parsed.KeyID, algorithm: parsed.Algorithm, public: parsed.Key}
	if private, ok := parsed.Key.(crypto.Signer); ok { // which nothing here needs
		k.public = private.Public()
	}
	switch public := k.public.(type) {
	case []byte:
		if !shared {
			return key{}, errors.New("it is a secret, and no algorithm that has one is allowed")
		}
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSA || bits > maxRSA {
			return key{}, fmt.Errorf("it has %d bits; RSA keys have %d to %d", bits, minRSA, maxRSA)
		}
	}
	return k, nil
}

// verify returns what has been signed by a key of the set, nil if by none of those. A
// token without a key's ID may be of any. known is false if a key that is not in the set
// may be the one.
func (s *keySet) verify(signed *jose.JSONWebSignature, id, algorithm string) (payload []byte, known bool) {
	tries := 0
	for i := range s.keys {
		k := &s.keys[i]
		if id != "" && k.id != id {
			continue
		}
		known = known || id != ""
		if !k.isFor(algorithm) || tries == maxTries {
			continue
		}
		tries++
		if payload, err := signed.Verify(k.public); err == nil {
			return payload, true
		}
	}
	return nil, known || tries > 0
}

// isFor reports whether signatures by an algorithm may be this key's. That is the key's
// to say, by its type: a public key must not be taken for a secret because the token has
// it so (RFC 8725 section 3.1).
func (k *key) isFor(algorithm string) bool {
	if k.algorithm != "" && k.algorithm != algorithm {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return algorithm == curves[public.Curve.Params().Name]
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	case []byte:
		return strings.HasPrefix(algorithm, "HS") // the library refuses those too short (RFC 7518 section 3.2)
	default:
		return false
	}
}

// curves are the algorithms of keys by their curves (RFC 7518 section 3.4).
var curves = map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
