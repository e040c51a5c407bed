package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// serverTLS is that of a backend at a loopback address.
func serverTLS(t testing.TB, ca *securetest.Authority) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "127.0.0.1").TLS(t)}, NextProtos: []string{"h2"}}
}

// asking has a backend ask for certificates of an authority.
func asking(c *tls.Config, ca *securetest.Authority) *tls.Config {
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	return c
}

// listenerFiles are the TLS files of a listener, and who has signed them.
type listenerFiles struct {
	ca  *securetest.Authority
	dir string
}

func newListenerFiles(t testing.TB) *listenerFiles {
	f := &listenerFiles{ca: securetest.NewAuthority(t), dir: t.TempDir()}
	f.ca.Issue(t, "127.0.0.1", "proxy.test").Write(t, f.dir, "proxy")
	securetest.WriteFile(t, f.authority(), f.ca.PEM())
	return f
}

func (f *listenerFiles) authority() string { return filepath.Join(f.dir, "ca.pem") }

// tls is what a configuration says of them.
func (f *listenerFiles) tls() *conf.ListenerTLS {
	return &conf.ListenerTLS{Certificates: []conf.Certificate{{
		Cert: filepath.Join(f.dir, "proxy.pem"), Key: filepath.Join(f.dir, "proxy.key"),
	}}}
}

// tlsClient is a client of a listener with TLS, which shows a certificate if it has one.
// It has a connection of its own.
func (f *clusterProxy) tlsClient(address string, roots *x509.CertPool, own ...tls.Certificate) *grpc.ClientConn {
	f.t.Helper()
	creds := credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: own, ServerName: "proxy.test"})
	cc, err := grpc.NewClient("passthrough:///"+address, append(faultDialOptions(), grpc.WithTransportCredentials(creds))...)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// requireCode makes a call on a new connection that ends with a code.
func (f *clusterProxy) requireCode(code codes.Code, cc *grpc.ClientConn) {
	f.t.Helper()
	_, err := askName(f.safe(), cc, faultMethod)
	require.Equal(f.t, code, resultOf(err, nil).code, "%v", err)
}

// startTLS runs a proxy with listeners of all sorts: plaintext, with TLS, with TLS that
// asks for certificates, and a socket.
func startTLS(t *testing.T, transport string, files *listenerFiles, b *namedBackend) *clusterProxy {
	cfg := faultConfig(b.addr)
	cfg.Transport = transport
	mutual := files.tls()
	mutual.ClientCA = files.authority()
	// Addresses tell listeners from each other.
	cfg.Listeners = []conf.Listener{
		{Address: "127.0.0.1:0"},
		{Address: loopback.Free(t), TLS: files.tls()},
		{Address: loopback.Free(t), TLS: mutual},
		{Address: "unix://" + filepath.Join(t.TempDir(), "proxy.sock")},
	}
	return startCluster(t, cfg)
}

func TestTLSPlaintextAndSocketsSideBySide(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		files := newListenerFiles(t)
		f := startTLS(t, transport, files, startNamed(t, "b", nil))
		one, mutual := f.cfg.Listeners[1].Address, f.cfg.Listeners[2].Address
		own, foreign := files.ca.Issue(t, "client.test").TLS(t), securetest.NewAuthority(t)

		f.requireCode(codes.OK, f.client)
		f.requireCode(codes.OK, f.tlsClient(one, files.ca.Pool()))
		f.requireCode(codes.OK, f.tlsClient(mutual, files.ca.Pool(), own))
		f.requireCode(codes.OK, insecureClient(t, f.cfg.Listeners[3].Address))

		f.requireCode(codes.Unavailable, f.tlsClient(one, foreign.Pool()))
		f.requireCode(codes.Unavailable, f.tlsClient(mutual, files.ca.Pool()))
		f.requireCode(codes.Unavailable, f.tlsClient(mutual, files.ca.Pool(), foreign.Issue(t, "client.test").TLS(t)))
		f.requireCode(codes.Unavailable, f.tlsClient(f.addr, files.ca.Pool()))
		f.requireCode(codes.Unavailable, insecureClient(t, "passthrough:///"+one))
		f.requireCode(codes.OK, f.client)
		f.lives()
	})
}

// A certificate that is replaced on disk is in force soon, for new connections; those
// that there are go on.
func TestTLSFilesOfListenersAreReadAgain(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		files := newListenerFiles(t)
		f := startTLS(t, transport, files, startNamed(t, "b", nil))
		address := f.cfg.Listeners[1].Address
		before := f.tlsClient(address, files.ca.Pool())
		f.requireCode(codes.OK, before)

		next := securetest.NewAuthority(t)
		next.Issue(t, "proxy.test").Write(t, files.dir, "proxy")
		require.Eventually(t, func() bool {
			_, err := askName(f.safe(), f.tlsClient(address, next.Pool()), faultMethod)
			return err == nil
		}, faultSafety, 50*time.Millisecond)
		f.requireCode(codes.Unavailable, f.tlsClient(address, files.ca.Pool()))
		f.requireCode(codes.OK, before)
	})
}

// What a reload says of a listener's TLS holds for new connections.
func TestReloadOfListenersTLS(t *testing.T) {
	files, others := newListenerFiles(t), newListenerFiles(t)
	b := startNamed(t, "b", nil)
	f := startTLS(t, faultConfig().Transport, files, b)
	address := f.cfg.Listeners[1].Address
	before := f.tlsClient(address, files.ca.Pool())
	f.requireCode(codes.OK, before)

	config := func(l *conf.ListenerTLS) *conf.Config {
		cfg := faultConfig(b.addr)
		cfg.Transport, cfg.Listeners = f.cfg.Transport, append([]conf.Listener(nil), f.cfg.Listeners...)
		cfg.Listeners[1].TLS = l
		return cfg
	}
	mutual := others.tls()
	mutual.ClientCA = others.authority()
	f.reload(config(mutual))
	f.requireCode(codes.OK, f.tlsClient(address, others.ca.Pool(), others.ca.Issue(t, "client.test").TLS(t)))
	f.requireCode(codes.Unavailable, f.tlsClient(address, others.ca.Pool()))
	f.requireCode(codes.Unavailable, f.tlsClient(address, files.ca.Pool()))
	f.requireCode(codes.OK, before)

	plain := config(nil)
	assert.Equal(t, []string{"listeners[1].tls"}, proxy.NeedsRestart(f.cfg, plain))
	f.reload(plain)
	f.requireCode(codes.Unavailable, insecureClient(t, "passthrough:///"+address))
	f.reload(config(files.tls()))
	f.requireCode(codes.OK, f.tlsClient(address, files.ca.Pool()))
}

// tlsTo has the cluster "default" encrypt, with files of these.
func tlsTo(t *testing.T, dir string, ca *securetest.Authority, own *securetest.Pair) *conf.ClusterTLS {
	c := &conf.ClusterTLS{CA: filepath.Join(dir, "backends.pem")}
	securetest.WriteFile(t, c.CA, ca.PEM())
	if own != nil {
		c.Cert, c.Key = own.Write(t, dir, "own")
	}
	return c
}

func TestTLSToBackends(t *testing.T) {
	ca, foreign := securetest.NewAuthority(t), securetest.NewAuthority(t)
	own, stranger := ca.Issue(t, "proxy.test"), foreign.Issue(t, "proxy.test")
	for name, test := range map[string]struct {
		backend *tls.Config // nil: plaintext
		ca      *securetest.Authority
		own     *securetest.Pair
		problem string // "": it is well
	}{
		"TLS":                     {backend: serverTLS(t, ca), ca: ca},
		"mTLS":                    {backend: asking(serverTLS(t, ca), ca), ca: ca, own: &own},
		"mTLS, none of its own":   {backend: asking(serverTLS(t, ca), ca), ca: ca, problem: "refused the connection"},
		"mTLS, one of a stranger": {backend: asking(serverTLS(t, ca), ca), ca: ca, own: &stranger, problem: "refused the connection"},
		"of another authority":    {backend: serverTLS(t, ca), ca: foreign, problem: "unknown authority"},
		"a backend without any":   {ca: ca, problem: "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				cfg := faultConfig(startNamed(t, "b", test.backend).addr)
				cfg.Transport = transport
				cfg.Clusters["default"].TLS = tlsTo(t, t.TempDir(), test.ca, test.own)
				f := startCluster(t, cfg)
				r := f.call(f.safe(), faultMethod, []byte("x"))
				if test.problem == "" {
					requireOK(t, r, []byte("x"))
				} else {
					requireFailure(t, r, codes.Unavailable, stream.BackendUnreachable, `cluster "default"`, test.problem)
				}
				f.lives()
			})
		})
	}
}

// The files of a cluster are read again: a backend that has moved to another authority,
// and asks for a certificate of that, is reached when they have been replaced.
func TestTLSFilesOfClustersAreReadAgain(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		ca, next := securetest.NewAuthority(t), securetest.NewAuthority(t)
		dir, own := t.TempDir(), ca.Issue(t, "proxy.test")
		old := startNamed(t, "old", asking(serverTLS(t, ca), ca))
		file := newInstanceFile(t, old)
		cfg := faultConfig()
		cfg.Transport = transport
		cfg.Clusters["default"] = file.discovered()
		cfg.Clusters["default"].TLS = tlsTo(t, dir, ca, &own)
		f := startCluster(t, cfg)
		require.Equal(t, "old", f.answeredBy())

		moved := next.Issue(t, "proxy.test")
		tlsTo(t, dir, next, &moved)
		require.Equal(t, "old", f.answeredBy(), "connections that there are go on")
		file.write(startNamed(t, "new", asking(serverTLS(t, next), next)))
		require.Eventually(t, func() bool {
			name, err := askName(f.safe(), f.client, faultMethod)
			return err == nil && name == "new"
		}, faultSafety, 20*time.Millisecond)
	})
}
