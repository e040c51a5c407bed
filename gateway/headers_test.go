package gateway

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sent makes a request and returns the metadata that the backend gets.
func (s *started) sent(t *testing.T, headers ...string) map[string][]string {
	t.Helper()
	a := s.do(t, "POST /shop.Shop/Plain", "", headers...)
	require.Equal(t, 200, a.status, a.body)
	md, _ := s.seen()
	return md
}

func TestHeadersBecomeMetadata(t *testing.T) {
	o := lean()
	o.IncomingHeaders = []string{"X-Request-Id", "traceparent"}
	o.Cookies = map[string]string{"token": "md-token", "session": "Authorization"}
	s := start(t, o)
	md := s.sent(t, "Accept-Language: de", "Grpc-Metadata-Color: teal", "Grpc-Metadata-Raw-Bin: AP8=", "X-Other: no",
		"x-request-id: 7", "Traceparent: 00-1", "Cookie: token=abc; other=x", "Authorization: Bearer z", "Grpc-Timeout: 9S",
		"Connection: X-Other", "Grpc-Metadata-Md-Token: forged", "Host: shop.example")
	assert.Equal(t, []string{"de"}, md["grpcgateway-accept-language"])
	assert.Equal(t, []string{"teal"}, md["color"])
	assert.Equal(t, []string{"\x00\xff"}, md["raw-bin"])
	assert.Equal(t, []string{"7"}, md["x-request-id"])
	assert.Equal(t, []string{"00-1"}, md["traceparent"])
	assert.Equal(t, []string{"abc"}, md["md-token"])
	assert.Equal(t, []string{"Bearer z"}, md["authorization"])
	assert.Equal(t, []string{"shop.example"}, md["x-forwarded-host"])
	assert.Equal(t, []string{"127.0.0.1"}, md["x-forwarded-for"])
	assert.Equal(t, []string{"http"}, md["x-forwarded-proto"])
	assert.NotContains(t, md, "x-other")
	assert.NotContains(t, md, "connection")
	assert.True(t, s.deadline)

	md = s.sent(t, "Cookie: session=s")
	assert.Equal(t, []string{"s"}, md["authorization"])
}

func TestPagesOfOthersCannotUseCookies(t *testing.T) {
	const cookie, page, browser = "Cookie: session=s", "Origin: https://other.example", "Sec-Fetch-Site: cross-site"
	for name, test := range map[string]struct {
		trusted string
		headers []string
		status  int
	}{
		"a page of another origin": {"", []string{cookie, page, browser}, 403},
		"of an older browser":      {"", []string{cookie, page}, 403},
		"without that cookie":      {"", []string{"Cookie: other=s", page, browser}, 200},
		"an origin that may":       {"https://other.example", []string{cookie, page, browser}, 200},
		"a page of the same host":  {"", []string{cookie, page, "Sec-Fetch-Site: same-origin"}, 200},
		"no browser":               {"", []string{cookie}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			o := lean()
			o.Cookies = map[string]string{"session": "authorization"}
			if test.trusted != "" {
				o.CrossOrigin = http.NewCrossOriginProtection()
				require.NoError(t, o.CrossOrigin.AddTrustedOrigin(test.trusted))
			}
			s := start(t, o)
			a := s.do(t, "POST /shop.Shop/Plain", "", append(test.headers, "Content-Type: text/plain")...)
			require.Equal(t, test.status, a.status, a.body)
			if test.status == 403 {
				require.Contains(t, a.body, `"code":7`)
				require.Contains(t, a.body, "another origin")
			}
		})
	}
}

func TestReservedMetadataCannotBeSent(t *testing.T) {
	var log bytes.Buffer
	o := lean()
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.IncomingHeaders = []string{"Te", "X-Forwarded-For", "X-Kitexproxy-Reason"}
	o.Cookies = map[string]string{"x": "grpc-status"}
	s := start(t, o)
	names := []string{
		"grpc-status", "grpc-timeout", "grpc-metadata-te", "content-type", "te", "host", "authorization", "user-agent", "connection",
		"transfer-encoding", "x-kitexproxy-reason", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "grpcgateway-host",
	}
	headers := []string{"X-Kitexproxy-Reason: forged", "Cookie: x=forged", "X-Forwarded-For: forged", "Forwarded: for=forged"}
	for _, name := range names {
		headers = append(headers, "Grpc-Metadata-"+name+": forged")
	}
	for key, values := range s.sent(t, headers...) {
		assert.NotContains(t, values, "forged", key)
		for _, v := range values {
			if key != "grpcgateway-cookie" {
				assert.NotContains(t, v, "forged", key)
			}
		}
	}
	assert.Contains(t, log.String(), `header=X-Forwarded-For`)
	assert.Contains(t, log.String(), `metadata=grpc-status`)
}

func TestForwardingHeadersOfTrustedProxies(t *testing.T) {
	o := lean()
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	headers := []string{"X-Forwarded-For: 10.1.1.1", "X-Forwarded-Host: there.example", "X-Forwarded-Proto: https"}
	md := start(t, o).sent(t, headers...)
	assert.Equal(t, []string{"10.1.1.1, 127.0.0.1"}, md["x-forwarded-for"])
	assert.Equal(t, []string{"there.example"}, md["x-forwarded-host"])
	assert.Equal(t, []string{"https"}, md["x-forwarded-proto"])

	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	md = start(t, o).sent(t, headers...)
	assert.Equal(t, []string{"127.0.0.1"}, md["x-forwarded-for"])
	assert.NotEqual(t, []string{"there.example"}, md["x-forwarded-host"])
	assert.Equal(t, []string{"http"}, md["x-forwarded-proto"])
}

func TestBelievedAddresses(t *testing.T) {
	h := &headers{trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}}
	for remote, want := range map[string]bool{
		"10.1.2.3:80": true, "[::ffff:10.1.2.3]:80": true, "[fe80::1%eth0]:80": true, "11.1.2.3:80": false, "@": false, "": false,
	} {
		assert.Equal(t, want, h.believed(remote), remote)
	}
}

func TestMetadataBecomesHeaders(t *testing.T) {
	o := lean()
	o.OutgoingHeaders, o.OutgoingTrailers = []string{"X-Own"}, []string{"x-end"}
	s := start(t, o)
	a := s.do(t, "POST /shop.Shop/Plain", "", "TE: trailers")
	assert.Equal(t, "h", a.header.Get("Grpc-Metadata-X-Head"))
	assert.Equal(t, "o", a.header.Get("X-Own"))
	assert.Equal(t, "t", a.trailer.Get("Grpc-Trailer-X-Tail"))
	assert.Equal(t, "e", a.trailer.Get("X-End"))
	assert.Empty(t, a.header.Get("Grpc-Metadata-X-Own"))

	assert.Empty(t, s.do(t, "POST /shop.Shop/Plain", "").trailer)
	a = s.do(t, "GET /v1/watch?big=1", "")
	assert.Equal(t, "h", a.header.Get("Grpc-Metadata-X-Head"))
	a = s.do(t, "POST /shop.Shop/Plain", "", "Grpc-Metadata-Fail: 5", "TE: trailers")
	assert.Equal(t, "h", a.header.Get("Grpc-Metadata-X-Head"))
	assert.Equal(t, "t", a.trailer.Get("Grpc-Trailer-X-Tail"))
}

// TestBinaryMetadataBecomesText: as it is it would break the response's header.
func TestBinaryMetadataBecomesText(t *testing.T) {
	s := start(t, lean())
	text := base64.RawStdEncoding.EncodeToString([]byte(rawMetadata))
	for _, what := range []string{"POST /shop.Shop/Plain", "GET /v1/watch?big=1", "POST /v1/collect"} {
		a := s.do(t, what, "", "TE: trailers")
		assert.Equal(t, text, a.header.Get("Grpc-Metadata-X-Raw-Bin"), what)
		if !strings.HasPrefix(what, "GET") { // streams have no trailers
			assert.Equal(t, text, a.trailer.Get("Grpc-Trailer-X-Raw-Bin"), what)
		}
	}
}
