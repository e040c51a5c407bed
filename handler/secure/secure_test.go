package secure

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
)

var quiet = slog.New(slog.DiscardHandler)

// listener is the configuration of a listener with one certificate for names.
func listener(t *testing.T, ca *securetest.Authority, names ...string) *conf.ListenerTLS {
	cert, key := ca.Issue(t, names...).Write(t, t.TempDir(), "server")
	return &conf.ListenerTLS{Certificates: []conf.Certificate{{Cert: cert, Key: key}}}
}

func write(t *testing.T, content []byte) string {
	file := filepath.Join(t.TempDir(), "file.pem")
	securetest.WriteFile(t, file, content)
	return file
}

// safety ends what would otherwise hang; no test passes by waiting for it.
const safety = 60 * time.Second

// meet makes a handshake, and returns what each side makes of the other.
func meet(t *testing.T, server, client *tls.Config) (ofServer, ofClient tls.ConnectionState, serverErr, clientErr error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	far, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, near.SetDeadline(time.Now().Add(safety)))
	require.NoError(t, far.SetDeadline(time.Now().Add(safety)))
	accepted, conn := tls.Server(far, server), tls.Client(near, client)
	ended := make(chan error, 1)
	go func() { // ends with its end of the connection
		defer accepted.Close()
		err := accepted.Handshake()
		if err == nil {
			_, err = accepted.Write([]byte("x"))
		}
		ended <- err
	}()
	_, clientErr = io.ReadFull(conn, make([]byte, 1)) // for what TLS 1.3 says after the handshake
	_ = near.Close()
	serverErr = <-ended
	return accepted.ConnectionState(), conn.ConnectionState(), serverErr, clientErr
}

func trusting(ca *securetest.Authority, name string) *tls.Config {
	return &tls.Config{RootCAs: ca.Pool(), ServerName: name, NextProtos: []string{"h2"}}
}

func TestServerShowsTheCertificateForTheName(t *testing.T) {
	ca := securetest.NewAuthority(t)
	cfg := listener(t, ca, "first.test")
	cfg.Certificates = append(cfg.Certificates, listener(t, ca, "*.second.test").Certificates...)
	server, err := Server(cfg, quiet)
	require.NoError(t, err)
	for name, want := range map[string]string{
		"first.test": "first.test", "a.second.test": "*.second.test", "second.test": "first.test", "other.test": "first.test", "": "first.test",
	} {
		t.Run(name, func(t *testing.T) {
			client := trusting(ca, name)
			client.InsecureSkipVerify = true // the first one is for none of some
			_, seen, _, err := meet(t, server, client)
			require.NoError(t, err)
			require.Equal(t, []string{want}, seen.PeerCertificates[0].DNSNames)
			require.Equal(t, "h2", seen.NegotiatedProtocol)
		})
	}
}

func TestVersions(t *testing.T) {
	ca := securetest.NewAuthority(t)
	for name, test := range map[string]struct {
		least   string
		version uint16
		ok      bool
	}{
		"1.1 is too old":    {"", tls.VersionTLS11, false},
		"1.2":               {"1.2", tls.VersionTLS12, true},
		"1.2 is too old":    {"1.3", tls.VersionTLS12, false},
		"1.3 when required": {"1.3", tls.VersionTLS13, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := listener(t, ca, "name.test")
			cfg.MinVersion = test.least
			server, err := Server(cfg, quiet)
			require.NoError(t, err)
			client := trusting(ca, "name.test")
			client.MinVersion, client.MaxVersion = test.version, test.version
			_, _, _, err = meet(t, server, client)
			require.Equal(t, test.ok, err == nil, err)

			server = server.Clone()
			server.GetConfigForClient, server.MinVersion, server.MaxVersion = nil, test.version, test.version
			client, err = Client(&conf.ClusterTLS{CA: write(t, ca.PEM()), ServerName: "name.test", MinVersion: test.least}, quiet)
			require.NoError(t, err)
			_, _, _, err = meet(t, server, client)
			require.Equal(t, test.ok, err == nil, err)
		})
	}
}

func TestClientCertificates(t *testing.T) {
	ca, stranger := securetest.NewAuthority(t), securetest.NewAuthority(t)
	good, bad := ca.Issue(t, "client"), stranger.Issue(t, "client")
	for name, test := range map[string]struct {
		mode  string
		shown *securetest.Pair
		ok    bool
	}{
		"required, none":       {"", nil, false},
		"required, good":       {conf.ClientCertificateRequire, &good, true},
		"required, of another": {conf.ClientCertificateRequire, &bad, false},
		"optional, none":       {conf.ClientCertificateOptional, nil, true},
		"optional, good":       {conf.ClientCertificateOptional, &good, true},
		"optional, of another": {conf.ClientCertificateOptional, &bad, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := listener(t, ca, "name.test")
			cfg.ClientCA, cfg.ClientCertificate = write(t, ca.PEM()), test.mode
			server, err := Server(cfg, quiet)
			require.NoError(t, err)
			cluster := &conf.ClusterTLS{CA: cfg.ClientCA, ServerName: "name.test"}
			if test.shown != nil {
				cluster.Cert, cluster.Key = test.shown.Write(t, t.TempDir(), "client")
			}
			client, err := Client(cluster, quiet)
			require.NoError(t, err)
			client = withCertificate(client)
			seen, _, serverErr, clientErr := meet(t, server, client)
			require.Equal(t, test.ok, serverErr == nil, serverErr)
			require.Equal(t, test.ok, clientErr == nil, clientErr)
			if test.ok && test.shown != nil {
				require.Equal(t, []string{"client"}, seen.PeerCertificates[0].DNSNames)
			}
		})
	}
}

// withCertificate has a client show what it has, whichever authority is asked for.
func withCertificate(c *tls.Config) *tls.Config {
	if len(c.Certificates) == 0 {
		return c
	}
	c = c.Clone()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.Certificates[0], nil }
	return c
}

func TestClientVerifiesTheBackend(t *testing.T) {
	ca := securetest.NewAuthority(t)
	server, err := Server(listener(t, ca, "name.test", "127.0.0.1"), quiet)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		ca   string
		name string
		want any // the error, nil for none
	}{
		"name":           {write(t, ca.PEM()), "name.test", nil},
		"IP address":     {write(t, ca.PEM()), "127.0.0.1", nil},
		"another name":   {write(t, ca.PEM()), "other.test", new(x509.HostnameError)},
		"another ca":     {write(t, securetest.NewAuthority(t).PEM()), "name.test", new(x509.UnknownAuthorityError)},
		"system's roots": {"", "name.test", new(x509.UnknownAuthorityError)},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := Client(&conf.ClusterTLS{CA: test.ca, ServerName: test.name}, quiet)
			require.NoError(t, err)
			_, _, _, err = meet(t, server, client)
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorAs(t, err, test.want)
		})
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	ca := securetest.NewAuthority(t)
	pair, other := ca.Issue(t, "name.test"), ca.Issue(t, "name.test")
	encrypted := bytes.ReplaceAll(pair.Key, []byte("PRIVATE KEY"), []byte("ENCRYPTED PRIVATE KEY"))
	broken := bytes.Replace(pair.Cert, []byte("\nMII"), []byte("\nAAA"), 1)
	missing := filepath.Join(t.TempDir(), "missing.pem")
	cert, key := pair.Write(t, t.TempDir(), "good")
	noCert, noKey := write(t, []byte("nothing")), write(t, pair.Cert)
	for name, test := range map[string]struct{ cert, key, ca, file, want string }{
		"no file":                    {missing, key, "", missing, "no such file or directory"},
		"no certificate":             {noCert, key, "", noCert, "no certificate in it"},
		"a key for a certificate":    {key, key, "", key, "no certificate in it"},
		"no key":                     {cert, noKey, "", noKey, "no private key in it"},
		"key of another certificate": {cert, write(t, other.Key), "", cert, "the key does not fit the certificate"},
		"encrypted key":              {cert, write(t, encrypted), "", "", "encrypted"},
		"broken certificate":         {write(t, broken), key, "", "", "x509: malformed"},
		"no authority":               {cert, key, noCert, noCert, "no certificate in it"},
		"broken authority":           {cert, key, write(t, broken), "", "x509: malformed"},
		"a directory":                {filepath.Dir(cert), key, "", filepath.Dir(cert), "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Server(&conf.ListenerTLS{
				Certificates: []conf.Certificate{{Cert: test.cert, Key: test.key}}, ClientCA: test.ca,
			}, quiet)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, test.file)
			_, err = Client(&conf.ClusterTLS{CA: test.ca, Cert: test.cert, Key: test.key}, quiet)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, test.file)
		})
	}
}

func TestFileThatMayNotBeRead(t *testing.T) {
	file := write(t, nil)
	require.NoError(t, os.Chmod(file, 0))
	if _, err := os.ReadFile(file); err == nil {
		t.Skip("this user may read everything")
	}
	_, err := Client(&conf.ClusterTLS{CA: file}, quiet)
	require.EqualError(t, err, file+": permission denied")
}

func TestCertificatesOutOfDateAreWarnedOf(t *testing.T) {
	ca := securetest.NewAuthority(t)
	for name, test := range map[string]struct {
		end  time.Time
		want string
	}{
		"expired":       {time.Now().Add(-time.Hour), "expired"},
		"not valid yet": {time.Now().Add(10 * time.Hour), "not valid yet"},
		"valid":         {time.Now().Add(time.Hour), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var lines bytes.Buffer
			cert, key := ca.IssueUntil(t, test.end, "name.test").Write(t, t.TempDir(), "server")
			_, err := Server(&conf.ListenerTLS{Certificates: []conf.Certificate{{Cert: cert, Key: key}}}, slog.New(slog.NewTextHandler(&lines, nil)))
			require.NoError(t, err)
			if test.want == "" {
				require.Empty(t, lines.String())
				return
			}
			require.Contains(t, lines.String(), test.want)
			require.Contains(t, lines.String(), cert)
			require.Contains(t, lines.String(), test.end.UTC().Format("2006-01-02"))
		})
	}
}

// expire has the next handshake look at the files.
func (r *reloader) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checked = time.Time{}
}

func TestChangedFilesAreInForce(t *testing.T) {
	ca := securetest.NewAuthority(t)
	dir := t.TempDir()
	var lines bytes.Buffer
	cert, key := ca.Issue(t, "old.test").Write(t, dir, "server")
	cfg := &conf.ListenerTLS{Certificates: []conf.Certificate{{Cert: cert, Key: key}}}
	log := slog.New(slog.NewTextHandler(&lines, nil))
	r, err := newReloader([]string{cert, "", key}, log, func() (*tls.Config, error) { return server(cfg, log) })
	require.NoError(t, err)
	shown := func() string { return r.current().Certificates[0].Leaf.DNSNames[0] }

	next := ca.Issue(t, "new.test")
	next.Write(t, dir, "server")
	require.Equal(t, "old.test", shown(), "nobody has looked")
	r.expire()
	require.Equal(t, "new.test", shown())
	require.Equal(t, 1, strings.Count(lines.String(), "read again"))

	for range 3 { // half of a change
		securetest.WriteFile(t, cert, ca.Issue(t, "half.test").Cert)
		r.expire()
		require.Equal(t, "new.test", shown())
		r.expire()
		require.Equal(t, "new.test", shown())
		require.Equal(t, 1, strings.Count(lines.String(), "cannot be used"), lines.String())
		require.Contains(t, lines.String(), cert)
		lines.Reset()
	}
	require.NoError(t, os.Remove(cert))
	r.expire()
	require.Equal(t, "new.test", shown())
	require.Contains(t, lines.String(), "no such file")
	ca.Issue(t, "newest.test").Write(t, dir, "server")
	r.expire()
	require.Equal(t, "newest.test", shown())
}

// What holds for new handshakes is asked of the configuration itself, on both sides.
func TestBothSidesFollowTheirFiles(t *testing.T) {
	before, after := securetest.NewAuthority(t), securetest.NewAuthority(t)
	dir := t.TempDir()
	cert, key := before.Issue(t, "name.test").Write(t, dir, "server")
	ca := filepath.Join(dir, "ca.pem")
	securetest.WriteFile(t, ca, before.PEM())
	server, err := Server(&conf.ListenerTLS{Certificates: []conf.Certificate{{Cert: cert, Key: key}}}, quiet)
	require.NoError(t, err)
	client, err := Client(&conf.ClusterTLS{CA: ca, ServerName: "name.test"}, quiet)
	require.NoError(t, err)
	_, _, _, err = meet(t, server, client)
	require.NoError(t, err)

	after.Issue(t, "name.test").Write(t, dir, "server")
	securetest.WriteFile(t, ca, after.PEM())
	require.Eventually(t, func() bool {
		now, err := client.GetConfigForClient(nil)
		require.NoError(t, err)
		_, seen, _, err := meet(t, server, now)
		return err == nil && len(seen.VerifiedChains) == 1 && seen.PeerCertificates[0].CheckSignatureFrom(after.Certificate()) == nil
	}, 20*time.Second, 50*time.Millisecond)
}
