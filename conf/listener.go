package conf

// Listener is one address that accepts gRPC calls in HTTP/2.
type Listener struct {
	// Address is "host:port", ":port", or "unix:///path/to/socket".
	Address string `yaml:"address"`
	// TLS encrypts its connections. Default nil: plaintext.
	TLS *ListenerTLS `yaml:"tls,omitempty"`
	// Interceptors are the names of those around its calls, the outermost first:
	// before routes are asked. They are of Config.Interceptors, or the program's.
	// Default none.
	Interceptors []string `yaml:"interceptors,omitempty"`
}

// ListenerTLS is how a listener speaks TLS: version 1.2 or later, with "h2" by
// ALPN. The files are read again when they change.
type ListenerTLS struct {
	// Certificates are what the listener shows: the one for the name that the
	// client asks for (SNI), else the first. At least one.
	Certificates []Certificate `yaml:"certificates"`
	// ClientCA is a PEM file with the certificates that those of clients are
	// verified by. Default "": clients are not asked for one.
	ClientCA string `yaml:"client_ca,omitempty"`
	// ClientCertificate says what becomes of clients without a certificate:
	// ClientCertificateRequire (the default with ClientCA, which "" stands for)
	// or ClientCertificateOptional.
	ClientCertificate string `yaml:"client_certificate,omitempty"`
	// MinVersion is "1.2" (the default, which "" stands for) or "1.3".
	MinVersion string `yaml:"min_version,omitempty"`
}

// The values of ListenerTLS.ClientCertificate.
const (
	// ClientCertificateRequire refuses clients without a certificate.
	ClientCertificateRequire = "require"
	// ClientCertificateOptional verifies a certificate if there is one.
	ClientCertificateOptional = "optional"
)

// Certificate is a certificate and its private key, in PEM files.
type Certificate struct {
	// Cert is the file of the certificate, with those that lead to its root
	// behind it.
	Cert string `yaml:"cert"`
	// Key is the file of its private key.
	Key string `yaml:"key"`
}
