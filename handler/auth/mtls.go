package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

// The values of MTLS.Identity: what of a certificate names the caller.
const (
	// SANURI is the first URI among the subject's alternative names, as SPIFFE has it.
	SANURI = "san-uri"
	// SANDNS is the first DNS name among them.
	SANDNS = "san-dns"
	// CommonName is the common name of the subject.
	CommonName = "common-name"
	// Fingerprint is the SHA-256 of the certificate in lower-case hexadecimal digits.
	Fingerprint = "fingerprint"
)

// MTLS says how calls are known by the certificate of the client.
type MTLS struct {
	// Identity is SANURI, SANDNS, CommonName or Fingerprint.
	Identity string
	// Optional lets calls without a verified certificate go on, with the identity they
	// have, if any.
	Optional bool
}

// NewMTLS returns a guard that sets the call's identity, of KindMTLS. It takes no
// certificate that the connection has not been verified by: a listener that only asks
// for one, and verifies none, has none to show here.
func NewMTLS(o MTLS) (intercept.Guard, error) {
	nameOf, ok := certificateNames[o.Identity]
	if !ok {
		return nil, fmt.Errorf("identity: %q names nothing of a certificate; write %s, %s, %s or %s",
			o.Identity, SANURI, SANDNS, CommonName, Fingerprint)
	}
	return func(c *intercept.Call) error {
		cert := verifiedCertificate(c)
		switch {
		case cert == nil && o.Optional:
			return nil
		case cert == nil:
			return unauthenticated("the connection has no client certificate that was verified; connect by TLS with one")
		}
		name := nameOf(cert)
		if !hasName(name) {
			return unauthenticated("the client certificate has no usable %s, by which callers are known here", o.Identity)
		}
		c.SetIdentity(intercept.Identity{Kind: KindMTLS, Name: name})
		return nil
	}, nil
}

// verifiedCertificate returns the client's own certificate if an authority vouches for
// it, nil otherwise. PeerCertificates is what the client has shown, verified or not.
func verifiedCertificate(c *intercept.Call) *x509.Certificate {
	if t := c.TLS(); t != nil && len(t.VerifiedChains) > 0 && len(t.VerifiedChains[0]) > 0 {
		return t.VerifiedChains[0][0]
	}
	return nil
}

// certificateNames give what names the caller, "" for nothing.
var certificateNames = map[string]func(*x509.Certificate) string{
	SANURI: func(cert *x509.Certificate) string {
		if len(cert.URIs) == 0 {
			return ""
		}
		return cert.URIs[0].String()
	},
	SANDNS: func(cert *x509.Certificate) string {
		if len(cert.DNSNames) == 0 {
			return ""
		}
		return cert.DNSNames[0]
	},
	CommonName: func(cert *x509.Certificate) string { return cert.Subject.CommonName },
	Fingerprint: func(cert *x509.Certificate) string {
		sum := sha256.Sum256(cert.Raw)
		return hex.EncodeToString(sum[:])
	},
}
