package discovery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/discovery"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/conf"
)

const (
	// defaultPrefix is that of registry-etcd.
	defaultPrefix = "kitex/registry-etcd"
	// etcdKeepalive is how long a connection may be silent, and again how long the
	// answer to a ping may take. Servers refuse pings that come more often than
	// every 5s.
	etcdKeepalive = 10 * time.Second
	// etcdPause is waited between two attempts to watch.
	etcdPause = time.Second
	// maxAnswer bounds what etcd answers with, in bytes: some KiB for each of the
	// instances that a cluster can have.
	maxAnswer = 64 << 20
)

// etcdSource has the instances that Kitex servers register by
// github.com/kitex-contrib/registry-etcd, whose keys and values it reads. That
// library's own resolver is not used: it tells no change, does not tell an empty list
// from an error, cannot be closed, and goes on without TLS if a file is wrong.
type etcdSource struct {
	cfg    *conf.Etcd
	prefix string // of the keys of the service

	mu     sync.Mutex
	client *clientv3.Client // nil before the first use
	access access           // what client was made with
}

func openEtcd(cfg *conf.Etcd, service string) Source {
	prefix := cfg.Prefix
	if prefix == "" {
		prefix = defaultPrefix
	}
	e := &etcdSource{cfg: cfg, prefix: prefix + "/" + service + "/"}
	return Source{
		Name:     fmt.Sprintf("service %q in etcd at %s", service, strings.Join(cfg.Endpoints, ",")),
		Resolver: resolver("etcd", e.resolve),
		Service:  service,
		Notify:   e.follow,
		close:    e.close,
	}
}

// resolve returns what is registered. Entries that cannot be read are left out, and no
// entries are no error: their leases may have expired.
func (e *etcdSource) resolve(ctx context.Context) ([]discovery.Instance, error) {
	client, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := client.Get(ctx, e.prefix, clientv3.WithPrefix(), clientv3.WithLimit(maxInstances))
	if err != nil {
		return nil, err
	}
	var instances []discovery.Instance
	var missing []string
	for _, kv := range answer.Kvs {
		in, err := parseRegistered(kv.Value)
		if err != nil {
			missing = append(missing, fmt.Sprintf("key %s: %v", show(string(kv.Key)), err))
			continue
		}
		instances = append(instances, in)
	}
	if more := answer.Count - int64(len(answer.Kvs)); more > 0 {
		missing = append(missing, fmt.Sprintf("%d more entries than the %d that a cluster can have", more, maxInstances))
	}
	if len(missing) > 0 {
		return instances, &IncompleteError{Missing: missing}
	}
	return instances, nil
}

// parseRegistered returns the instance in a value that registry-etcd wrote.
func parseRegistered(value []byte) (discovery.Instance, error) {
	var info struct {
		Network string            `json:"network"`
		Address string            `json:"address"`
		Weight  int               `json:"weight"`
		Tags    map[string]string `json:"tags"`
	}
	if err := json.Unmarshal(value, &info); err != nil {
		return nil, fmt.Errorf("not what registry-etcd writes: %w", err)
	}
	if info.Address == "" {
		return nil, errors.New("not what registry-etcd writes: it has no address")
	}
	if info.Weight <= 0 {
		info.Weight = discovery.DefaultWeight // as registry-etcd takes it
	}
	return discovery.NewInstance(info.Network, inBrackets(info.Address), info.Weight, info.Tags), nil
}

// inBrackets puts the brackets around an IPv6 address that registry-etcd leaves out.
func inBrackets(address string) string {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return address
	}
	if ip, err := netip.ParseAddr(address[:i]); err == nil && ip.Is6() {
		return "[" + address[:i] + "]" + address[i:]
	}
	return address
}

// follow calls changed when etcd tells of a change, until ctx ends.
func (e *etcdSource) follow(ctx context.Context, changed func()) {
	repeat(ctx, etcdPause, func() {
		client, err := e.connect(ctx)
		if err != nil {
			return // resolve has the same error, and tells of it
		}
		ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		defer cancel()
		// That the watch has begun is a change: there may have been one before.
		for range client.Watch(ctx, e.prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify(), clientv3.WithFragment()) {
			changed()
		}
	})
}

// connect returns a client, and another one once its files have changed.
func (e *etcdSource) connect(ctx context.Context) (*clientv3.Client, error) {
	access, err := readAccess(e.cfg)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil && access.equal(&e.access) {
		return e.client, nil
	}
	client, err := dial(ctx, e.cfg, &access)
	if err != nil {
		return nil, err
	}
	if e.client != nil {
		e.client.Close()
	}
	e.client, e.access = client, access
	return client, nil
}

func (e *etcdSource) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == nil {
		return nil
	}
	if err := e.client.Close(); !errors.Is(err, context.Canceled) { // what a client that was closed returns
		return err
	}
	return nil
}

// dial makes a client. With a username it signs in at once, for as long as ctx lasts.
func dial(ctx context.Context, cfg *conf.Etcd, a *access) (*clientv3.Client, error) {
	config, err := a.tls(cfg.TLS)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	client, err := clientv3.New(clientv3.Config{
		Context:              life,
		Endpoints:            cfg.Endpoints,
		DialTimeout:          askTimeout,
		DialKeepAliveTime:    etcdKeepalive,
		DialKeepAliveTimeout: etcdKeepalive,
		MaxCallRecvMsgSize:   maxAnswer,
		// More attempts would use up the time, and hide why they fail.
		MaxUnaryRetries: uint(2 * len(cfg.Endpoints)),
		TLS:             config,
		Username:        cfg.Username,
		Password:        a.password,
		DialOptions:     []grpc.DialOption{grpc.WithChainUnaryInterceptor(failFast)},
		Logger:          zap.NewNop(),
	})
	switch {
	case err != nil:
		end()
		return nil, err
	case !stop():
		client.Close()
		return nil, context.Cause(ctx)
	}
	return client, nil
}

// failFast has a question to etcd end when no member can be reached, with an error that
// says why. The client would wait until its time is up, and say no more than that.
func failFast(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	return invoke(ctx, method, request, answer, conn, append(slices.Clip(opts), grpc.WaitForReady(false))...)
}

// access is what the files hold that etcd is reached with.
type access struct {
	password      string
	ca, cert, key []byte
}

func readAccess(cfg *conf.Etcd) (a access, err error) {
	if cfg.PasswordFile != "" {
		password, err := readFile(cfg.PasswordFile)
		if err != nil {
			return access{}, err
		}
		a.password = strings.TrimRight(string(password), "\r\n")
		if a.password == "" {
			return access{}, fmt.Errorf("%s: has no password", cfg.PasswordFile)
		}
	}
	if cfg.TLS == nil {
		return a, nil
	}
	var failures [3]error
	a.ca, failures[0] = readIf(cfg.TLS.CA)
	a.cert, failures[1] = readIf(cfg.TLS.Cert)
	a.key, failures[2] = readIf(cfg.TLS.Key)
	return a, errors.Join(failures[:]...)
}

// readIf reads a file, if there is to be one.
func readIf(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return readFile(path)
}

func (a *access) equal(b *access) bool {
	return a.password == b.password && bytes.Equal(a.ca, b.ca) && bytes.Equal(a.cert, b.cert) && bytes.Equal(a.key, b.key)
}

// tls returns how connections are encrypted; nil if they are not.
func (a *access) tls(cfg *conf.ClusterTLS) (*tls.Config, error) {
	if cfg == nil {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.ServerName}
	if cfg.MinVersion == "1.3" {
		config.MinVersion = tls.VersionTLS13
	}
	if cfg.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(a.ca) {
			return nil, fmt.Errorf("%s: has no certificate in PEM form", cfg.CA)
		}
	}
	if cfg.Cert != "" {
		pair, err := tls.X509KeyPair(a.cert, a.key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", cfg.Cert, cfg.Key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
