package auth

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestTokens(t *testing.T) {
	tokens := newTokens(t, JWT{Audiences: []string{"invoices", audience}, Leeway: 30 * time.Second})
	for name, token := range map[string]string{
		"RS256":                 sign(t, jose.RS256, rsaKey(), "rsa", good(nil)),
		"PS512":                 sign(t, jose.PS512, rsaKey(), "rsa", good(nil)),
		"RS256 by the key":      sign(t, jose.RS256, otherRSA(), "rs256", good(nil)),
		"ES256":                 sign(t, jose.ES256, ecKey(), "ec", good(nil)),
		"ES384":                 sign(t, jose.ES384, ec384Key(), "ec384", good(nil)),
		"EdDSA":                 sign(t, jose.EdDSA, edKey(), "ed", good(nil)),
		"no key id":             sign(t, jose.RS256, otherRSA(), "", good(nil)),
		"one of many audiences": sign(t, jose.ES256, ecKey(), "ec", good(claims{"aud": []string{"a", audience}})),
		"just expired":          sign(t, jose.ES256, ecKey(), "ec", good(claims{"exp": time.Now().Unix() - 20})),
		"not quite yet":         sign(t, jose.ES256, ecKey(), "ec", good(claims{"nbf": time.Now().Unix() + 20, "iat": time.Now().Unix() + 20})),
	} {
		t.Run(name, func(t *testing.T) {
			for _, value := range []string{"Bearer " + token, "bearer  " + token, " BEARER " + token + " ", token} {
				c := call("authorization", value)
				require.NoError(t, tokens.Guard(c))
				require.Equal(t, KindJWT, c.Identity().Kind)
				require.Equal(t, "alice", c.Identity().Name)
				require.Equal(t, issuer, c.Identity().Claims["iss"])
				_, changed := c.ChangedHeader()
				require.False(t, changed, "which would cost something")
			}
		})
	}
}

// TestAttacks: tokens that somebody has made who has no key of the issuer, or one for
// something else.
func TestAttacks(t *testing.T) {
	valid := sign(t, jose.ES256, ecKey(), "ec", good(nil))
	parts := strings.Split(valid, ".")
	publicKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(rsaKey().Public()))})
	embedded := &jose.SignerOptions{EmbedJWK: true}
	intruder := intruderKey()
	for name, test := range map[string]struct{ token, want string }{
		"no signature":              {parts[0] + "." + parts[1] + ".", "signature is not valid"},
		"none":                      {unsigned(claims{"alg": "none"}, good(nil), ""), `signed by "none", which is none of RS256`},
		"None with the key's id":    {unsigned(claims{"alg": "None", "kid": "ec"}, good(nil), "x"), `signed by "None"`},
		"no algorithm":              {unsigned(claims{"kid": "ec"}, good(nil), "x"), "signed by none"},
		"changed claims":            {parts[0] + "." + encode(must(json.Marshal(good(claims{"sub": "admin"})))) + "." + parts[2], "signature is not valid"},
		"changed signature":         {valid[:len(valid)-8] + "AAAAAAAA", "signature is not valid"},
		"signature of zeros":        {parts[0] + "." + parts[1] + "." + encode(make([]byte, 64)), "signature is not valid"},
		"another's head":            {encode([]byte(`{"alg":"ES384","kid":"ec"}`)) + "." + parts[1] + "." + parts[2], "signature is not valid"},
		"the public key as secret":  {byMAC(sha256.New, "HS256", publicKey, "rsa"), `signed by "HS256"`},
		"a key of one's own":        {sign(t, jose.RS256, intruder, "rsa", good(nil)), "signature is not valid"},
		"an unknown key":            {sign(t, jose.RS256, intruder, "mine", good(nil)), `not known: kid "mine", alg "RS256"`},
		"a key in the head":         {signWith(t, jose.RS256, intruder, "rsa", good(nil), embedded), "signature is not valid"},
		"a key in the head, no id":  {signWith(t, jose.RS256, intruder, "", good(nil), embedded), "signature is not valid"},
		"a URL for keys":            {signWith(t, jose.RS256, intruder, "x", good(nil), (&jose.SignerOptions{}).WithHeader("jku", "https://evil.test")), "not known"},
		"a path as key id":          {sign(t, jose.RS256, intruder, "../../dev/null", good(nil)), "not known"},
		"other algorithm of RSA":    {sign(t, jose.PS256, otherRSA(), "rs256", good(nil)), "signature is not valid, or not by a key for alg"},
		"key of another curve":      {sign(t, jose.ES384, ec384Key(), "ec", good(nil)), "signature is not valid"},
		"critical extension":        {signWith(t, jose.ES256, ecKey(), "ec", good(nil), (&jose.SignerOptions{}).WithCritical("b64").WithHeader("b64", true)), "critical extensions"},
		"expired":                   {sign(t, jose.ES256, ecKey(), "ec", good(claims{"exp": 1_600_000_000})), "expired at 2020-09-13T12:26:40Z"},
		"never expires":             {sign(t, jose.ES256, ecKey(), "ec", good(claims{"exp": nil})), "has no exp"},
		"expires as text":           {sign(t, jose.ES256, ecKey(), "ec", good(claims{"exp": "2999-01-01"})), "a registered claim in it is not as it should be"},
		"expires beyond all time":   {sign(t, jose.ES256, ecKey(), "ec", good(claims{"exp": math.MaxFloat64})), "a registered claim"},
		"expires null":              {sign(t, jose.ES256, ecKey(), "ec", []byte(`{"exp":null,"sub":"a"}`)), ""},
		"not yet":                   {sign(t, jose.ES256, ecKey(), "ec", good(claims{"nbf": 4_000_000_000})), "is not valid before 2096-10-02T07:06:40Z"},
		"of the future":             {sign(t, jose.ES256, ecKey(), "ec", good(claims{"iat": 4_000_000_000})), "from the future"},
		"another issuer":            {sign(t, jose.ES256, ecKey(), "ec", good(claims{"iss": "https://evil.test"})), `issuer "https://evil.test"`},
		"no issuer":                 {sign(t, jose.ES256, ecKey(), "ec", good(claims{"iss": nil})), "issuer none"},
		"issuer with a slash":       {sign(t, jose.ES256, ecKey(), "ec", good(claims{"iss": issuer + "/"})), "issuer"},
		"another audience":          {sign(t, jose.ES256, ecKey(), "ec", good(claims{"aud": "invoices"})), `its aud is "invoices"`},
		"no audience":               {sign(t, jose.ES256, ecKey(), "ec", good(claims{"aud": nil})), "its aud is none"},
		"audience of numbers":       {sign(t, jose.ES256, ecKey(), "ec", good(claims{"aud": []int{1}})), "a registered claim"},
		"no subject":                {sign(t, jose.ES256, ecKey(), "ec", good(claims{"sub": nil})), `no usable claim "sub"`},
		"empty subject":             {sign(t, jose.ES256, ecKey(), "ec", good(claims{"sub": ""})), `no usable claim "sub"`},
		"subject that breaks lines": {sign(t, jose.ES256, ecKey(), "ec", good(claims{"sub": "a\nb"})), `no usable claim "sub"`},
		"claims twice":              {sign(t, jose.ES256, ecKey(), "ec", []byte(`{"sub":"alice","sub":"admin","exp":4000000000}`)), "not a JSON object"},
		"no object":                 {sign(t, jose.ES256, ecKey(), "ec", []byte(`["alice"]`)), "not a JSON object"},
		"nothing":                   {sign(t, jose.ES256, ecKey(), "ec", []byte(`null`)), "has no exp"},
		"encrypted":                 {"a.b.c.d.e", "no JSON Web Token that is signed"},
		"too long":                  {parts[0] + "." + strings.Repeat("A", maxToken) + "." + parts[2], "more than 16 KiB"},
		"not base64":                {"a+b.c.d", "no JSON Web Token"},
		"padded":                    {parts[0] + "=." + parts[1] + "." + parts[2], "no JSON Web Token"},
	} {
		t.Run(name, func(t *testing.T) {
			tokens := newTokens(t, JWT{Audiences: []string{audience}, Leeway: 30 * time.Second, Optional: true})
			for range 2 { // no verdict is kept
				c := bearer(test.token)
				err := tokens.Guard(c)
				isUnauthenticated(t, err, test.want)
				assert.NotContains(t, err.Error(), test.token)
				assert.Less(t, len(err.Error()), 400)
				assert.Zero(t, c.Identity())
			}
		})
	}
}

// TestSecretsAreNoPublicKeys: where both kinds of algorithm are allowed, the key says
// which it is for.
func TestSecretsAreNoPublicKeys(t *testing.T) {
	set := keySetOf(jwk("rsa", "", rsaKey()), jwk("secret", "", sharedKey), jwk("short", "", shortShare))
	tokens := newTokens(t, JWT{JWKS: JWKS{File: file(t, set)}, Algorithms: []string{"RS256", "HS256", "HS512"}})
	require.NoError(t, tokens.Guard(bearer(sign(t, jose.HS256, sharedKey, "secret", good(nil)))))
	require.NoError(t, tokens.Guard(bearer(sign(t, jose.RS256, rsaKey(), "rsa", good(nil)))))

	publicKey := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	for _, secret := range [][]byte{rsaKey().N.Bytes(), publicKey, nil} {
		isUnauthenticated(t, tokens.Guard(bearer(byMAC(sha256.New, "HS256", secret, "rsa"))), "signature is not valid")
		isUnauthenticated(t, tokens.Guard(bearer(byMAC(sha256.New, "HS256", secret, ""))), "signature is not valid")
	}
	isUnauthenticated(t, tokens.Guard(bearer(byMAC(sha256.New, "HS256", shortShare, "short"))), "signature is not valid")
	isUnauthenticated(t, tokens.Guard(bearer(byMAC(sha512.New, "HS512", sharedKey, "secret"))), "signature is not valid")
}

func TestTokensThatAreNotThere(t *testing.T) {
	token := sign(t, jose.ES256, ecKey(), "ec", good(nil))
	for name, test := range map[string]struct {
		metadata []string
		want     string
	}{
		"none":          {nil, `has no token; send one as metadata "authorization": "Bearer TOKEN"`},
		"empty":         {[]string{"authorization", ""}, `has no token; send "Bearer TOKEN"`},
		"only Bearer":   {[]string{"authorization", "Bearer "}, "has no token"},
		"Basic":         {[]string{"authorization", "Basic YTpi"}, "of another kind than Bearer"},
		"two in one":    {[]string{"authorization", "Bearer " + token + ", Bearer " + token}, "no JSON Web Token"},
		"two, no space": {[]string{"authorization", "Bearer " + token + "," + token}, "no JSON Web Token"},
		"two":           {[]string{"authorization", "Bearer " + token, "authorization", "Bearer x"}, "several values"},
	} {
		t.Run(name, func(t *testing.T) {
			isUnauthenticated(t, newTokens(t, JWT{}).Guard(call(test.metadata...)), test.want)
			err := newTokens(t, JWT{Optional: true}).Guard(call(test.metadata...))
			require.Equal(t, name == "none", err == nil, err)
		})
	}
}

func TestClaimsForTheBackend(t *testing.T) {
	tokens := newTokens(t, JWT{Remove: true, Header: "X-Token", Claims: map[string]string{
		"X-User": "sub", "x-roles": "roles", "x-number": "number", "x-missing": "missing", "x-object": "object", "x-name-bin": "name",
	}})
	token := sign(t, jose.ES256, ecKey(), "ec", good(claims{
		"roles": []any{"a", 1, true}, "number": int64(math.MaxInt64), "object": claims{"a": "b"}, "name": "Zoë",
	}))
	for range 2 { // verified, and known
		c := call("x-user", "root", "x-missing", "forged", "x-token", token, "other", "1")
		require.NoError(t, tokens.Guard(c))
		require.ElementsMatch(t, stream.Metadata{
			{Key: "other", Value: "1"},
			{Key: "x-user", Value: "alice"},
			{Key: "x-roles", Value: "a"},
			{Key: "x-roles", Value: "1"},
			{Key: "x-roles", Value: "true"},
			{Key: "x-number", Value: "9223372036854775807"},
			{Key: "x-object", Value: `{"a":"b"}`},
			{Key: "x-name-bin", Value: "Wm/Dqw"},
		}, forBackend(c))
	}
	unprintable := sign(t, jose.ES256, ecKey(), "ec", good(claims{"sub": "Zoë"}))
	isUnauthenticated(t, tokens.Guard(call("x-token", unprintable)), `claim "sub" of the token is not printable ASCII`)
}

// TestForgedClaims: who has no token does not get to say what one would have said.
func TestForgedClaims(t *testing.T) {
	tokens := newTokens(t, JWT{Optional: true, Claims: map[string]string{"x-user": "sub"}})
	c := call("x-user", "root", "other", "1")
	require.NoError(t, tokens.Guard(c))
	require.Equal(t, stream.Metadata{{Key: "other", Value: "1"}}, forBackend(c))
	c = call("other", "1")
	require.NoError(t, tokens.Guard(c))
	_, changed := c.ChangedHeader()
	require.False(t, changed)
}

func TestIdentityOfAnotherClaim(t *testing.T) {
	tokens := newTokens(t, JWT{Identity: "email", Issuer: AnyIssuer})
	c := bearer(sign(t, jose.EdDSA, edKey(), "ed", claims{"email": "a@b.test", "exp": time.Now().Unix() + 60}))
	require.NoError(t, tokens.Guard(c))
	require.Equal(t, "a@b.test", c.Identity().Name)
}

// TestKnownTokens: what comes again costs no signature, until it expires or the keys
// change.
func TestKnownTokens(t *testing.T) {
	path := file(t, keySetOf(jwk("ec", "", ecKey())))
	tokens := newTokens(t, JWT{JWKS: JWKS{File: path}})
	raw := sign(t, jose.ES256, ecKey(), "ec", good(nil))
	verified := func() *token { return must(tokens.verified(raw)) }
	first := verified()
	require.Same(t, first, verified())

	write(t, path, keySetOf(jwk("ec", "", ecKey()), jwk("ed", "", edKey())))
	await(t, func() bool { return verified() != first })
	write(t, path, keySetOf(jwk("ed", "", edKey())))
	await(t, func() bool { return tokens.Guard(bearer(raw)) != nil })
	isUnauthenticated(t, tokens.Guard(bearer(raw)), "a key that is not known")
}

func TestKnownTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := tokensWithout(t, allKeys())
		tokens.options.Leeway = 10 * time.Second
		token := sign(t, jose.ES256, ecKey(), "ec", good(claims{"exp": time.Now().Add(time.Minute).Unix()}))
		require.NoError(t, tokens.Guard(bearer(token)))
		time.Sleep(70 * time.Second)
		require.NoError(t, tokens.Guard(bearer(token)), "the leeway")
		time.Sleep(time.Second)
		isUnauthenticated(t, tokens.Guard(bearer(token)), "the token expired at 2000-01-01T00:01:00Z")
		isUnauthenticated(t, tokens.Guard(bearer(token)), "the token expired at 2000-01-01T00:01:00Z")
	})
}

// tokensWithout is a link that nothing is behind: no file, no URL.
func tokensWithout(t testing.TB, set string) *Tokens {
	t.Helper()
	tokens := &Tokens{come: make(chan struct{}), options: JWT{Issuer: issuer}, header: defaultTokenHeader, identity: defaultClaim}
	require.NoError(t, tokens.setAlgorithms())
	require.NoError(t, tokens.take([]byte(set)))
	return tokens
}

func TestTokenCacheIsBounded(t *testing.T) {
	cache := newTokenCache(2 * shards)
	hash := func(i int) [32]byte { return [32]byte{0: 3, 1: byte(i), 2: byte(i >> 8)} }
	hot := &token{hash: hash(0)}
	cache.put(hot)
	for i := 1; i < 1000; i++ {
		require.Same(t, hot, cache.get(hash(0)), "one that is asked for stays")
		one := &token{hash: hash(i)}
		cache.put(one)
		require.Same(t, one, cache.shards[3].byHash[hash(i)])
		cache.put(&token{hash: hash(i)})
		require.LessOrEqual(t, len(cache.shards[3].byHash), 2)
	}
	require.Len(t, cache.shards[3].ring, 2)
}

func TestKeySetFileThatChanges(t *testing.T) {
	var log lines
	path := filepath.Join(t.TempDir(), "jwks.json")
	write(t, path, keySetOf(jwk("ec", "", ecKey())))
	tokens := newTokens(t, JWT{JWKS: JWKS{File: path}, Logger: log.logger()})
	write(t, path, `{"keys": [`)
	await(t, func() bool { return log.count("cannot be used") == 1 })
	require.Equal(t, 1, log.count(path+": it is not a JSON Web Key Set"))
	require.NoError(t, tokens.Guard(bearer(sign(t, jose.ES256, ecKey(), "ec", good(nil)))))
}

func TestKeySets(t *testing.T) {
	small := `{"kty":"RSA","n":"` + encode([]byte(strings.Repeat("\xff", 128))) + `","e":"AQAB"}`
	ec := string(must(json.Marshal(jwk("ec", "", ecKey()))))
	for name, test := range map[string]struct {
		set    string
		shared bool
		keys   int
		want   string
	}{
		"unknown kinds are left out": {`{"keys":[{"kty":"XX"},{"kty":"OKP","crv":"X25519","x":"AA"},` + ec + `]}`, false, 1, ""},
		"private keys":               {`{"keys":[` + string(must(json.Marshal(jose.JSONWebKey{Key: ecKey()}))) + `]}`, false, 1, ""},
		"secrets":                    {keySetOf(jwk("", "", sharedKey)), true, 1, ""},
		"no secrets":                 {keySetOf(jwk("", "", sharedKey)), false, 0, "key 1: it is a secret"},
		"for encryption":             {`{"keys":[` + strings.Replace(ec, `"sig"`, `"enc"`, 1) + `]}`, false, 0, `key 1: it is for the use "enc"`},
		"small RSA":                  {`{"keys":[` + small + `]}`, false, 0, "key 1: it has 1024 bits"},
		"nothing":                    {``, false, 0, "not a JSON Web Key Set"},
		"no keys":                    {`{"keys":[]}`, false, 0, "not a JSON Web Key Set"},
		"HTML":                       {`<html>`, false, 0, "not a JSON Web Key Set"},
		"no kind":                    {`{"keys":[{}, 1]}`, false, 0, "key 2: it is not a key"},
		"too many":                   {`{"keys":[1` + strings.Repeat(",1", maxKeys) + `]}`, false, 0, "more than 100 keys"},
		"off the curve":              {`{"keys":[{"kty":"EC","crv":"P-256","x":"` + encode(make([]byte, 32)) + `","y":"` + encode(make([]byte, 32)) + `"}]}`, false, 0, "is not a key"},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := parseKeySet([]byte(test.set), test.shared)
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			require.Len(t, set.keys, test.keys)
		})
	}
}

func TestJWTThatCannotBe(t *testing.T) {
	set := file(t, allKeys())
	for name, test := range map[string]struct {
		options JWT
		want    string
	}{
		"no issuer":        {JWT{JWKS: JWKS{File: set}}, `issuer: it is not set; write what tokens have as iss, or "any"`},
		"no keys":          {JWT{Issuer: "a"}, "jwks: the keys come from a file or from a URL"},
		"both":             {JWT{Issuer: "a", JWKS: JWKS{File: set, URL: "https://a.test"}}, "set one of the two"},
		"none":             {JWT{Issuer: "a", JWKS: JWKS{File: set}, Algorithms: []string{"none"}}, `algorithms: "none" is none`},
		"secret at a URL":  {JWT{Issuer: "a", JWKS: JWKS{URL: "https://a.test"}, Algorithms: []string{"HS256"}}, "cannot be at a URL"},
		"missing file":     {JWT{Issuer: "a", JWKS: JWKS{File: "missing.json"}}, "jwks: missing.json: no such file"},
		"bad file":         {JWT{Issuer: "a", JWKS: JWKS{File: file(t, "x")}}, "not a JSON Web Key Set"},
		"plain http":       {JWT{Issuer: "a", JWKS: JWKS{URL: "http://user:s3cret@a.test/keys"}}, `"http://user:xxxxx@a.test/keys": whoever is in between`},
		"http to any":      {JWT{Issuer: "a", JWKS: JWKS{URL: "http://0.0.0.0/keys"}}, "use https"},
		"another scheme":   {JWT{Issuer: "a", JWKS: JWKS{URL: "file:///etc/passwd"}}, "use https"},
		"no URL":           {JWT{Issuer: "a", JWKS: JWKS{URL: "https://a b"}}, "is not a URL"},
		"missing CA":       {JWT{Issuer: "a", JWKS: JWKS{URL: "https://a.test", CA: "missing.pem"}}, "missing.pem: no such file"},
		"no CA":            {JWT{Issuer: "a", JWKS: JWKS{URL: "https://a.test", CA: set}}, "no certificate in it"},
		"key for a claim":  {JWT{Issuer: "a", JWKS: JWKS{File: set}, Claims: map[string]string{"grpc-x": "sub"}}, `claims: metadata "grpc-x"`},
		"key of a token":   {JWT{Issuer: "a", JWKS: JWKS{File: set}, Header: "te"}, `header: metadata "te"`},
		"misspelt":         {JWT{Issuer: "a", JWKS: JWKS{File: set}, Algorithms: []string{"rs256"}}, "choose of RS256"},
		"reserved by name": {JWT{Issuer: "a", JWKS: JWKS{File: set}, Claims: map[string]string{"a b": "sub"}}, "is no key"},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Logger = quiet
			_, err := NewJWT(test.options)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func FuzzToken(f *testing.F) {
	valid := sign(f, jose.ES256, ecKey(), "ec", good(nil))
	for _, value := range []string{"Bearer " + valid, valid, "Basic YTpi", "Bearer", "bearer a.b.c", "a.b.c,d.e.f", unsigned(claims{"alg": "none"}, nil, "")} {
		f.Add(value)
	}
	tokens := tokensWithout(f, allKeys())
	f.Fuzz(func(t *testing.T, value string) {
		raw, problem := parseBearer(value)
		if problem == "" {
			require.Contains(t, value, raw)
			require.LessOrEqual(t, len(raw), maxToken)
		}
		c := call("authorization", value)
		if err := tokens.Guard(c); err != nil {
			isUnauthenticated(t, err, "")
			require.Zero(t, c.Identity())
			return
		}
		require.Equal(t, strings.Split(valid, ".")[1], strings.Split(raw, ".")[1], "nobody else has signed anything")
	})
}

func BenchmarkTokens(b *testing.B) {
	token := sign(b, jose.RS256, rsaKey(), "rsa", good(claims{"roles": []string{"a", "b"}, "name": "Alice", "email": "alice@example.test"}))
	value := "Bearer " + token
	newCall := func() *intercept.Call {
		return call("user-agent", "grpc-go/1", "x-tenant", "a", "authorization", value)
	}
	c := newCall()
	b.Run("known", func(b *testing.B) {
		benchmarkGuard(b, newTokens(b, JWT{}).Guard, func() *intercept.Call { return c })
	})
	b.Run("known, a claim for the backend", func(b *testing.B) {
		benchmarkGuard(b, newTokens(b, JWT{Claims: map[string]string{"x-user": "sub"}, Remove: true}).Guard, newCall)
	})
	b.Run("new", func(b *testing.B) {
		tokens := newTokens(b, JWT{})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tokens.verify(tokens.keys.Load(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
}
