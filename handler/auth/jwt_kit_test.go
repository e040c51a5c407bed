package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"hash"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

const (
	issuer   = "https://issuer.test"
	audience = "orders"
)

// The keys of an issuer; to make the one of RSA takes a while.
var (
	rsaKey      = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA    = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	intruderKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey       = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	ec384Key    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	edKey       = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })
	sharedKey   = []byte("0123456789abcdef0123456789abcdef")
	shortShare  = []byte("0123456789abcdef")
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// jwk is the public half of a key in a set.
func jwk(id, algorithm string, key any) jose.JSONWebKey {
	switch private := key.(type) {
	case *rsa.PrivateKey:
		key = private.Public()
	case *ecdsa.PrivateKey:
		key = private.Public()
	case ed25519.PrivateKey:
		key = private.Public()
	}
	return jose.JSONWebKey{Key: key, KeyID: id, Algorithm: algorithm, Use: "sig"}
}

func keySetOf(keys ...jose.JSONWebKey) string {
	return string(must(json.Marshal(jose.JSONWebKeySet{Keys: keys})))
}

// allKeys is the set of the issuer.
func allKeys() string {
	return keySetOf(jwk("rsa", "", rsaKey()), jwk("rs256", "RS256", otherRSA()), jwk("ec", "", ecKey()), jwk("ec384", "", ec384Key()), jwk("ed", "", edKey()))
}

type claims map[string]any

// good are the claims of a token that is valid, with some changed, or without those that
// are nil.
func good(changed claims) claims {
	c := claims{"iss": issuer, "aud": audience, "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for claim, value := range changed {
		c[claim] = value
		if value == nil {
			delete(c, claim)
		}
	}
	return c
}

// sign returns a token.
func sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, id string, c any) string {
	t.Helper()
	return signWith(t, algorithm, key, id, c, nil)
}

func signWith(t testing.TB, algorithm jose.SignatureAlgorithm, key any, id string, c any, o *jose.SignerOptions) string {
	t.Helper()
	payload, ok := c.([]byte)
	if !ok {
		payload = must(json.Marshal(c))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, o)
	require.NoError(t, err)
	signed, err := signer.Sign(payload)
	require.NoError(t, err)
	return must(signed.CompactSerialize())
}

// unsigned returns a token with a head and a signature of one's own.
func unsigned(head claims, c any, signature string) string {
	return encode(must(json.Marshal(head))) + "." + encode(must(json.Marshal(c))) + "." + encode([]byte(signature))
}

// byMAC returns a token that is good but for what its secret is.
func byMAC(hash func() hash.Hash, algorithm string, secret []byte, id string) string {
	text := encode(must(json.Marshal(claims{"alg": algorithm, "kid": id}))) + "." + encode(must(json.Marshal(good(nil))))
	mac := hmac.New(hash, secret)
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func newTokens(t testing.TB, o JWT) *Tokens {
	t.Helper()
	if o.JWKS == (JWKS{}) {
		o.JWKS.File = file(t, allKeys())
	}
	if o.Issuer == "" {
		o.Issuer = issuer
	}
	if o.Logger == nil {
		o.Logger = quiet
	}
	tokens, err := NewJWT(o)
	require.NoError(t, err)
	tokens.Start()
	t.Cleanup(tokens.Close)
	return tokens
}

func bearer(token string) *intercept.Call { return call("authorization", "Bearer "+token) }
