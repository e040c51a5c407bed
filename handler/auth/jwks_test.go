package auth

import (
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// served is an issuer's server, which answers as it is told.
type served struct {
	answer  atomic.Pointer[http.HandlerFunc]
	fetched atomic.Int64
}

func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.fetched.Add(1)
	(*s.answer.Load())(w, r)
}

func (s *served) set(answer http.HandlerFunc) { s.answer.Store(&answer) }

func (s *served) keys(set string) {
	s.set(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, set) })
}

// RoundTrip has a server be asked without a network, for tests of time.
func (s *served) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code == http.StatusTeapot {
		return nil, errors.New("connection refused")
	}
	return w.Result(), nil
}

func isUnavailable(t testing.TB, err error, want string) {
	t.Helper()
	refused(t, err, stream.Unavailable, stream.CredentialsUnavailable, want)
}

func TestKeysOfAURL(t *testing.T) {
	var issuer served
	issuer.keys(allKeys())
	for name, start := range map[string]func() (server *httptest.Server, ca string){
		"https": func() (*httptest.Server, string) {
			s := httptest.NewTLSServer(&issuer)
			return s, file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
		},
		"http on this machine": func() (*httptest.Server, string) { return httptest.NewServer(&issuer), "" },
	} {
		t.Run(name, func(t *testing.T) {
			server, ca := start()
			defer server.Close()
			tokens := newTokens(t, JWT{JWKS: JWKS{URL: server.URL, CA: ca}})
			token := sign(t, jose.ES256, ecKey(), "ec", good(nil))
			await(t, func() bool { return tokens.keys.Load() != nil })
			require.NoError(t, tokens.Guard(bearer(token)))
		})
	}
}

// TestServersThatAreNotGood: what they send is logged, once, and no token is valid by it.
func TestServersThatAreNotGood(t *testing.T) {
	evil := httptest.NewServer(http.RedirectHandler("http://keys.test/", http.StatusFound))
	defer evil.Close()
	endless := func(w http.ResponseWriter, _ *http.Request) {
		for range maxKeySet/1024 + 1 {
			_, _ = io.WriteString(w, strings.Repeat(" ", 1024))
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"an error":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "500 Internal Server Error"},
		"HTML":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "not a JSON Web Key Set"},
		"too much":  {endless, "larger than 1 MiB"},
		"no answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"redirect to http": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://keys.test", http.StatusFound)
		}, "redirect is to a URL that is not https"},
		"redirect to itself": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "too many redirects"},
		"redirect and on":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil.URL, http.StatusFound) }, "redirect is to a URL that is not https"},
		"keys of small value": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[{"kty":"oct","k":"AAAA"}]}`)
		}, "it is a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			var issuer served
			issuer.set(test.answer)
			server := httptest.NewServer(&issuer)
			defer server.Close()
			tokens := newTokens(t, JWT{JWKS: JWKS{URL: server.URL, Refresh: time.Millisecond}, Logger: log.logger()})
			await(t, func() bool { return issuer.fetched.Load() > 8 })
			assert.Equal(t, 1, log.count("cannot be fetched"))
			assert.Equal(t, 1, log.count(test.want), &log.text)
			isUnavailable(t, tokens.Guard(bearer("a.b.c")), "have not come yet")
			tokens.Close()
		})
	}
}

func TestServerWithAnotherCertificate(t *testing.T) {
	var log lines
	var issuer served
	issuer.keys(allKeys())
	server := httptest.NewUnstartedServer(&issuer)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // for handshakes
	server.StartTLS()
	defer server.Close()
	tokens := newTokens(t, JWT{JWKS: JWKS{URL: server.URL, Refresh: time.Millisecond}, Logger: log.logger()})
	await(t, func() bool { return log.count("certificate signed by unknown authority") == 1 })
	require.Nil(t, tokens.keys.Load())
}

// TestCloseDoesNotWaitForAServer: nor does anything else.
func TestCloseDoesNotWaitForAServer(t *testing.T) {
	var issuer served
	asked := make(chan struct{})
	issuer.set(func(_ http.ResponseWriter, r *http.Request) { close(asked); <-r.Context().Done() })
	server := httptest.NewServer(&issuer)
	defer server.Close()
	tokens := newTokens(t, JWT{JWKS: JWKS{URL: server.URL}})
	<-asked
	isUnavailable(t, tokens.Guard(bearer("a.b.c")), "have not come yet")
	tokens.Close()
}

// tokensOf is a link with the keys of an issuer that no network is before.
func tokensOf(t testing.TB, issuer *served, log *lines) *Tokens {
	t.Helper()
	tokens := tokensWithout(t, allKeys())
	tokens.keys.Store(nil)
	var err error
	tokens.remote, err = newRemote(&JWKS{URL: "https://user:s3cret@keys.test", Refresh: time.Minute}, log.logger(), tokens.take)
	require.NoError(t, err)
	tokens.remote.transport = issuer
	t.Cleanup(tokens.remote.start())
	synctest.Wait()
	return tokens
}

func TestFirstKeysComeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var issuer served
		var log lines
		issuer.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		tokens := tokensOf(t, &issuer, &log)
		token := sign(t, jose.ES256, ecKey(), "ec", good(nil))
		for _, after := range []time.Duration{1, 2, 4, 8, 16, 30, 30} { // seconds
			before := issuer.fetched.Load()
			isUnavailable(t, tokens.Guard(bearer(token)), "the keys to verify tokens by have not come yet; try again")
			time.Sleep(after*time.Second - time.Nanosecond)
			require.Equal(t, before, issuer.fetched.Load())
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			require.Equal(t, before+1, issuer.fetched.Load())
		}
		issuer.keys(allKeys())
		time.Sleep(lastRetry)
		synctest.Wait()
		require.NoError(t, tokens.Guard(bearer(token)))
		require.Equal(t, 1, log.count("connection refused"))
		require.Equal(t, 1, log.count("can be fetched again"))

		issuer.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		before := issuer.fetched.Load()
		time.Sleep(time.Minute + firstRetry)
		synctest.Wait()
		require.Equal(t, before+2, issuer.fetched.Load(), "the next failure is a first one")
		require.Equal(t, 2, log.count("connection refused"))
		require.Zero(t, log.count("s3cret"))
	})
}

// TestKeysThatRotate: a token by a new key has the keys be asked for, and is valid then.
func TestKeysThatRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var issuer served
		issuer.keys(keySetOf(jwk("old", "", edKey())))
		tokens := tokensOf(t, &issuer, &lines{})
		token := sign(t, jose.ES256, ecKey(), "new", good(nil))
		isUnauthenticated(t, tokens.Guard(bearer(token)), `not known: kid "new"`) // the keys have just been asked for
		issuer.keys(keySetOf(jwk("old", "", edKey()), jwk("new", "", ecKey())))
		time.Sleep(fetchPause)
		isUnavailable(t, tokens.Guard(bearer(token)), "a key that is being asked for; try again")
		synctest.Wait()
		require.NoError(t, tokens.Guard(bearer(token)))
		require.Equal(t, int64(2), issuer.fetched.Load())
	})
}

// TestMadeUpKeyIDs: whoever sends them has the keys be asked for every few seconds, not
// more.
func TestMadeUpKeyIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var issuer served
		issuer.keys(allKeys())
		tokens := tokensOf(t, &issuer, &lines{})
		token := sign(t, jose.ES256, ecKey(), "made-up", good(nil))
		for range 60 * 10 {
			time.Sleep(100 * time.Millisecond)
			require.Error(t, tokens.Guard(bearer(token)))
			synctest.Wait()
		}
		require.InDelta(t, int64(time.Minute/fetchPause), issuer.fetched.Load(), 2)
		isUnauthenticated(t, tokens.Guard(bearer(sign(t, jose.ES384, ec384Key(), "ec", good(nil)))), "signature is not valid")
	})
}

func TestKeysAreRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var issuer served
		var log lines
		issuer.keys(keySetOf(jwk("ec", "", ecKey())))
		tokens := tokensOf(t, &issuer, &log)
		token := sign(t, jose.ES256, ecKey(), "ec", good(nil))
		require.NoError(t, tokens.Guard(bearer(token)))

		issuer.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		time.Sleep(10 * time.Minute)
		require.NoError(t, tokens.Guard(bearer(token)), "the last keys stay in force")
		require.Equal(t, 1, log.count("502 Bad Gateway"))

		issuer.keys(keySetOf(jwk("ed", "", edKey()))) // the old key has been withdrawn
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Error(t, tokens.Guard(bearer(token)))
	})
}
