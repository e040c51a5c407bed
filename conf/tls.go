package conf

import "net/netip"

var (
	tlsVersions        = []string{"1.2", "1.3"}
	clientCertificates = []string{ClientCertificateRequire, ClientCertificateOptional}
)

// listenerTLS checks what the file says of TLS. Whether the files that it names
// exist and fit together is seen when they are read.
func (v *validator) listenerTLS(path string, t *ListenerTLS) {
	if t == nil {
		v.notNull(path)
		return
	}
	certificates := KeyPath(path, "certificates")
	if len(t.Certificates) == 0 {
		v.require(certificates, "at least one is needed", "add one, with cert and key")
	}
	seen := map[string]string{}
	for i, c := range t.Certificates {
		v.certificate(ItemPath(certificates, i), c, seen)
	}
	v.notBlank(KeyPath(path, "client_ca"), t.ClientCA, pathHint)
	v.clientCertificate(KeyPath(path, "client_certificate"), t)
	v.minVersion(KeyPath(path, "min_version"), t.MinVersion)
}

// certificate checks that both files are named. seen holds the path of each
// certificate so far.
func (v *validator) certificate(path string, c Certificate, seen map[string]string) {
	cert, key := KeyPath(path, "cert"), KeyPath(path, "key")
	v.filePath(cert, c.Cert)
	v.filePath(key, c.Key)
	if !v.isBroken(cert) {
		v.once(cert, c.Cert, c.Cert, seen)
	}
}

// filePath checks a path that must be there.
func (v *validator) filePath(path, file string) { v.notEmpty(path, file, pathHint) }

func (v *validator) clientCertificate(path string, t *ListenerTLS) {
	if t.ClientCertificate == "" && !v.has(path) {
		return
	}
	v.oneOf(path, t.ClientCertificate, clientCertificates)
	if t.ClientCA == "" && !v.isBroken(path) && !v.touched[KeyPath(parent(path), "client_ca")] {
		v.badValue(path, t.ClientCertificate, "needs client_ca",
			"add the file with what certificates are verified by, or remove this")
	}
}

func (v *validator) clusterTLS(path string, t *ClusterTLS) {
	if t == nil {
		v.notNull(path)
		return
	}
	v.notBlank(KeyPath(path, "ca"), t.CA, pathHint)
	v.notBlank(KeyPath(path, "cert"), t.Cert, pathHint)
	v.notBlank(KeyPath(path, "key"), t.Key, pathHint)
	v.together(path, option{"cert", t.Cert != ""}, option{"key", t.Key != ""})
	v.serverName(KeyPath(path, "server_name"), t.ServerName)
	v.minVersion(KeyPath(path, "min_version"), t.MinVersion)
}

func (v *validator) serverName(path, name string) {
	v.notBlank(path, name, "write a host name, or remove it")
	if name == "" || v.isBroken(path) {
		return
	}
	_, notIP := netip.ParseAddr(name)
	if _, ok := parseHost(name, false); !ok && notIP != nil {
		v.badValue(path, name, "is not a host name", `write one without a port, such as "backend.example.com"`)
	}
}

func (v *validator) minVersion(path, version string) {
	if version != "" || v.has(path) {
		v.oneOf(path, version, tlsVersions)
	}
}
