package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	defaultRefresh = 5 * time.Minute
	fetchTimeout   = 10 * time.Second
	maxKeySet      = 1 << 20 // bytes of a response
	maxRedirects   = 3

	// fetchPause is how soon keys are asked for again because a token names one that is
	// not known. Anybody can send such tokens.
	fetchPause = 5 * time.Second

	// A failed fetch is repeated after firstRetry, then twice as long each time, up to
	// lastRetry.
	firstRetry, lastRetry = time.Second, 30 * time.Second
)

// JWKS is where a JSON Web Key Set (RFC 7517) is; one of File and URL is set.
type JWKS struct {
	// File is a JSON file with the set. It is read again when it changes.
	File string
	// URL is where the set is asked for: https, or http on this machine. It is asked
	// again when a token names a key that is not known, and from time to time. While it
	// cannot be used, the keys that are there stay in force.
	URL string
	// Refresh is how often that is; 0 for 5 minutes.
	Refresh time.Duration
	// CA is a PEM file with the certificates that the one of URL is verified by, as it is
	// at the time; "" for the system's.
	CA string
}

// remote is a key set at a URL.
type remote struct {
	url       string
	ca        string
	refresh   time.Duration
	log       *slog.Logger
	take      func(data []byte) error
	transport http.RoundTripper // nil: a new one for each fetch

	// wanted tells the goroutine that fetches of a token that names a key that is not
	// known; pending is true from then on until it has looked.
	wanted  chan struct{}
	pending atomic.Bool
	began   atomic.Int64 // the last fetch, in nanoseconds from epoch

	// These are the goroutine's.
	epoch    time.Time
	failures int
	problem  string // what went wrong the last time
}

func newRemote(j *JWKS, log *slog.Logger, take func([]byte) error) (*remote, error) {
	u, err := url.Parse(j.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL", j.URL)
	case !isTrustworthy(u):
		return nil, fmt.Errorf("%q: whoever is in between could put in keys; use https (http is for this machine only)",
			u.Redacted())
	}
	r := &remote{
		url: j.URL, ca: j.CA, refresh: j.Refresh, log: log, take: take,
		wanted: make(chan struct{}, 1), epoch: time.Now(),
	}
	if r.refresh <= 0 {
		r.refresh = defaultRefresh
	}
	if _, err := r.pool(); err != nil {
		return nil, err
	}
	return r, nil
}

// isTrustworthy reports whether what comes from a URL is what its host has sent.
func isTrustworthy(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	isLocal := strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
	return host != "" && (u.Scheme == "https" || u.Scheme == "http" && isLocal)
}

// start begins to fetch, until stop is called, which waits for the end.
func (r *remote) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		r.run(ctx)
	}()
	return func() { cancel(); <-ended }
}

func (r *remote) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.wanted:
		}
		r.began.Store(int64(time.Since(r.epoch)))
		data, err := r.fetch(ctx)
		if err == nil {
			err = r.take(data)
		}
		r.pending.Store(false)
		timer.Reset(r.note(ctx, err))
	}
}

// want has the keys be asked for soon, unless they have just been. It reports whether
// that is going to happen. It may be called concurrently, and does not wait.
func (r *remote) want() bool {
	switch {
	case r.pending.Load():
		return true
	case time.Since(r.epoch)-time.Duration(r.began.Load()) < fetchPause:
		return false
	}
	r.pending.Store(true)
	select {
	case r.wanted <- struct{}{}:
	default: // it has been told
	}
	return true
}

// note logs what has come of a fetch, each problem once, and returns when to fetch
// again.
func (r *remote) note(ctx context.Context, err error) time.Duration {
	if err == nil {
		if r.problem != "" {
			r.log.Info("keys to verify tokens by can be fetched again", "url", r.shownURL())
		}
		r.failures, r.problem = 0, ""
		return r.refresh
	}
	if err.Error() != r.problem && ctx.Err() == nil {
		r.log.Error("keys to verify tokens by cannot be fetched, those there are stay in force", "url", r.shownURL(), "error", err)
	}
	r.problem = err.Error()
	wait := min(firstRetry<<min(r.failures, 10), lastRetry)
	r.failures++
	return min(wait, r.refresh)
}

// shownURL is the URL without a password.
func (r *remote) shownURL() string {
	u, err := url.Parse(r.url)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// fetch asks for the key set.
func (r *remote) fetch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	transport, err := r.roundTripper()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json") // RFC 7517 section 8.5
	client := &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %q, not 200", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err == nil && len(data) > maxKeySet {
		err = fmt.Errorf("the answer is larger than %d MiB", maxKeySet>>20)
	}
	return data, err
}

// checkRedirect has redirects not lead to where anybody may answer.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("there are too many redirects")
	case !isTrustworthy(req.URL):
		return errors.New("the redirect is to a URL that is not https")
	}
	return nil
}

// roundTripper returns what a fetch is made by. Fetches are minutes apart: no connection
// waits for the next.
func (r *remote) roundTripper() (http.RoundTripper, error) {
	if r.transport != nil {
		return r.transport, nil
	}
	pool, err := r.pool()
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

// pool returns the certificates of CA, nil for the system's.
func (r *remote) pool() (*x509.CertPool, error) {
	if r.ca == "" {
		return nil, nil
	}
	data, err := readFile(r.ca)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.ca, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: no certificate in it", r.ca)
	}
	return pool, nil
}
