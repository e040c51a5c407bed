package conf

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const claimHint = "write the name of a claim"

// links checks the interceptors, each of which is one kind of link.
func (v *validator) links() {
	for _, name := range v.linkNames {
		path, link := KeyPath("interceptors", name), v.config.Interceptors[name]
		switch {
		case link == nil:
			v.badField(path, "must not be nil", "")
			continue
		case slices.Contains(v.config.goInterceptors, name):
			v.badField(path, "is also the name of an interceptor of the program, in Go", "rename it")
			continue
		}
		v.link(path, link)
		v.name(path, name, "an interceptor") // last, as it silences checks below path
	}
}

func (v *validator) link(path string, i *Interceptor) {
	v.apiKeys(KeyPath(path, "api_keys"), i.APIKeys)
	v.jwt(KeyPath(path, "jwt"), i.JWT)
	v.mtls(KeyPath(path, "mtls"), i.MTLS)
	v.authorize(KeyPath(path, "authorize"), i.Authorize)
	v.requestID(KeyPath(path, "request_id"), i.RequestID)
	v.rateLimit(KeyPath(path, "rate_limit"), i.RateLimit)
	v.concurrencyLimit(KeyPath(path, "concurrency_limit"), i.ConcurrencyLimit)
	v.exactlyOne(path,
		option{"api_keys", i.APIKeys != nil}, option{"jwt", i.JWT != nil}, option{"mtls", i.MTLS != nil},
		option{"authorize", len(i.Authorize) > 0}, option{"request_id", i.RequestID != nil},
		option{"rate_limit", i.RateLimit != nil}, option{"concurrency_limit", i.ConcurrencyLimit != nil})
}

// linkRefs checks a list of interceptors, each of which is known and there once.
func (v *validator) linkRefs(path string, names []string) {
	seen := map[string]string{}
	for i, name := range names {
		path := ItemPath(path, i)
		if v.isBroken(path) || v.isBroken("interceptors") {
			continue
		}
		if _, ok := v.config.Interceptors[name]; !ok && !slices.Contains(v.config.goInterceptors, name) {
			v.unknownLink(path, name)
			continue
		}
		v.once(path, name, name, seen)
	}
}

func (v *validator) unknownLink(path, name string) {
	known := slices.Sorted(slices.Values(slices.Concat(v.linkNames, v.config.goInterceptors)))
	switch {
	case len(known) > 0:
		v.choice(path, name, "is not an interceptor", "interceptors", known)
	case name == "":
		v.badField(path, "must not be empty", "write the name of an interceptor")
	default:
		v.badValue(path, name, "is not an interceptor, as there are none",
			"add it under interceptors, as conf/proxy.yaml does")
	}
}

// certificateLinks checks that a listener whose interceptors ask for a certificate
// does so itself. path is the listener's.
func (v *validator) certificateLinks(path string, names []string, t *ListenerTLS) {
	tls := KeyPath(path, "tls")
	if t != nil && t.ClientCA != "" || v.touched[tls] {
		return
	}
	for i, name := range names {
		link, at := v.config.Interceptors[name], ItemPath(KeyPath(path, "interceptors"), i)
		if link == nil || link.MTLS == nil || link.MTLS.Optional || v.isBroken(at) {
			continue
		}
		v.badValue(at, name, "needs a certificate of the client, which the listener does not ask for",
			"add "+KeyPath(tls, "client_ca")+", or optional: true to the interceptor")
	}
}

func (v *validator) requestID(path string, r *RequestID) {
	if r == nil {
		v.notNull(path)
		return
	}
	v.givenKey(KeyPath(path, "header"), r.Header)
}

func (v *validator) rateLimit(path string, r *RateLimit) {
	if r == nil {
		v.notNull(path)
		return
	}
	between(v, KeyPath(path, "calls"), r.Calls, 0, math.MaxInt32)
	between(v, KeyPath(path, "messages"), r.Messages, 0, math.MaxInt32)
	between(v, KeyPath(path, "per"), r.Per, minRatePer, maxRatePer)
	between(v, KeyPath(path, "burst"), r.Burst, 0, math.MaxInt32)
	v.limitKey(KeyPath(path, "key"), r.Key)
	between(v, KeyPath(path, "keys"), r.Keys, 1, maxLimitKeys)
	if r.Calls == 0 && r.Messages == 0 {
		v.require(path, "limits nothing", "set calls or messages")
	}
	v.pace(path, "calls", r, r.Calls)
	v.pace(path, "messages", r, r.Messages)
}

// pace checks that n within a time, under a key, can be counted: in nanoseconds, and
// with bursts that come back.
func (v *validator) pace(path, key string, r *RateLimit, n int) {
	at, burst := KeyPath(path, key), KeyPath(path, "burst")
	if n <= 0 || r.Per <= 0 || v.isBroken(at) || v.isBroken(KeyPath(path, "per")) || v.isBroken(burst) {
		return
	}
	const ticks = 16                                            // what handler/limit counts in a nanosecond
	each := math.Round(float64(r.Per)/float64(n)*ticks) / ticks // nanoseconds
	switch {
	case each < 1:
		v.badValue(at, fmt.Sprint(n), fmt.Sprintf("in %v is more than one in a nanosecond, which is no limit", r.Per),
			"write less, or a longer per")
	case each*float64(r.Burst) > float64(maxBurstSpan):
		v.badValue(burst, fmt.Sprint(r.Burst), fmt.Sprintf("takes more than a year to come back, at %d in %v", n, r.Per),
			"write less")
	}
}

func (v *validator) concurrencyLimit(path string, c *ConcurrencyLimit) {
	if c == nil {
		v.notNull(path)
		return
	}
	between(v, KeyPath(path, "calls"), c.Calls, 1, math.MaxInt32)
	v.limitKey(KeyPath(path, "key"), c.Key)
	between(v, KeyPath(path, "keys"), c.Keys, 1, maxLimitKeys)
}

// limitKeys are the valid values of a limit's key; the last stands for any key of
// metadata.
var limitKeys = []string{LimitKeyAll, LimitKeyIdentity, LimitKeyPeer, LimitKeyMethod, LimitKeyMetadata + "KEY"}

func (v *validator) limitKey(path, key string) {
	if ofMetadata, ok := strings.CutPrefix(key, LimitKeyMetadata); ok {
		v.readableKey(path, ofMetadata)
		return
	}
	v.oneOf(path, key, limitKeys)
}
