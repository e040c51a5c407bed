package secure

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"
)

var (
	errNoCertificate = errors.New("no certificate in it")
	errNoKey         = errors.New("no private key in it")
	errEncrypted     = errors.New("the private key in it is encrypted with a passphrase, which cannot be given")
)

// loadPair reads a certificate and its key, and warns of one that is out of date.
func loadPair(certFile, keyFile string, log *slog.Logger) (tls.Certificate, error) {
	cert, err := readPEM(certFile, isCertificate, errNoCertificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readPEM(keyFile, isPrivateKey, errNoKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: the key does not fit the certificate in %s: %w", keyFile, certFile, err)
	}
	warnOfDates(certFile, pair.Leaf, log)
	return pair, nil
}

// loadPool reads the certificates of authorities.
func loadPool(file string) (*x509.CertPool, error) {
	all, err := readPEM(file, isCertificate, errNoCertificate)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for block, rest := pem.Decode(all); block != nil; block, rest = pem.Decode(rest) {
		if !isCertificate(block) {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

// readPEM reads a PEM file that has a block such as wanted, for which missing is
// the error.
func readPEM(file string, wanted func(*pem.Block) bool, missing error) ([]byte, error) {
	all, err := os.ReadFile(file)
	if err != nil {
		return nil, fileError(file, err)
	}
	for block, rest := pem.Decode(all); block != nil; block, rest = pem.Decode(rest) {
		if wanted(block) {
			return all, nil
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") {
			missing = errEncrypted
		}
	}
	return nil, fmt.Errorf("%s: %w", file, missing)
}

// fileError names the file first, and once.
func fileError(file string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("%s: %w", file, err)
}

func isCertificate(b *pem.Block) bool { return b.Type == "CERTIFICATE" }

func isPrivateKey(b *pem.Block) bool {
	return b.Type == "PRIVATE KEY" || strings.HasSuffix(b.Type, " PRIVATE KEY") && b.Type != "ENCRYPTED PRIVATE KEY"
}

// warnOfDates tells of a certificate that the other end is going to refuse. It may
// be the one that is at hand, so it is not refused here.
func warnOfDates(file string, cert *x509.Certificate, log *slog.Logger) {
	switch now := time.Now(); {
	case now.After(cert.NotAfter):
		log.Warn("a certificate has expired", "file", file, "expired", cert.NotAfter)
	case now.Before(cert.NotBefore):
		log.Warn("a certificate is not valid yet", "file", file, "valid_from", cert.NotBefore)
	}
}
