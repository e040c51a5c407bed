package etcd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
	"github.com/kitexproxy/kitexproxy/resolver/discovery"
)

const (
	// never is a refresh that no test waits for: what is seen was told by etcd.
	never   = 24 * time.Hour
	patient = 60 * time.Second
)

// member is an etcd of one member that can be stopped and started again.
type member struct {
	address, peers, dir string
	etcd                *embed.Etcd
}

func startEtcd(t *testing.T) *member {
	m := &member{address: loopback.Free(t), peers: loopback.Free(t), dir: t.TempDir()}
	m.start(t)
	t.Cleanup(func() { m.etcd.Close() })
	return m
}

func (m *member) start(t *testing.T) {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Logger, cfg.ZapLoggerBuilder = m.dir, "zap", embed.NewZapLoggerBuilder(zap.NewNop())
	clients, peers := url.URL{Scheme: "http", Host: m.address}, url.URL{Scheme: "http", Host: m.peers}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = true
	etcd, err := embed.StartEtcd(cfg)
	require.NoError(t, err)
	m.etcd = etcd
	select {
	case <-etcd.Server.ReadyNotify():
	case <-time.After(patient):
		require.FailNow(t, "etcd does not start")
	}
}

// client returns a client as Kitex servers have one.
func (m *member) client(t *testing.T, user, password string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{m.address}, DialTimeout: patient, Logger: zap.NewNop(), Username: user, Password: password,
	})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func key(address string) string { return "kitex/registry-etcd/orders/" + address }

func value(address string) string {
	return fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10,"tags":null}`, address)
}

func register(t *testing.T, client *clientv3.Client, address string, opts ...clientv3.OpOption) {
	_, err := client.Put(t.Context(), key(address), value(address), opts...)
	require.NoError(t, err)
}

func deregister(t *testing.T, client *clientv3.Client, address string) {
	_, err := client.Delete(t.Context(), key(address))
	require.NoError(t, err)
}

type watched struct {
	*discovery.Watch
	updates chan string
}

func watch(t *testing.T, cfg *conf.Etcd, refresh time.Duration) *watched {
	source, err := discovery.Open(&conf.Discovery{Etcd: cfg, Service: "orders"}, nil)
	require.NoError(t, err)
	w := &watched{updates: make(chan string, 100)}
	w.Watch = discovery.NewWatch(discovery.Options{
		Cluster: "orders", Source: source, Refresh: refresh,
		Update: func(all []cluster.Instance) {
			var texts []string
			for _, in := range all {
				texts = append(texts, in.Address)
			}
			w.updates <- strings.Join(texts, " ")
		},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	t.Cleanup(w.Close)
	return w
}

func (w *watched) next(t *testing.T) string {
	t.Helper()
	select {
	case addresses := <-w.updates:
		return addresses
	case <-time.After(patient):
		require.FailNow(t, "no update", "status: %+v", w.Status())
		return ""
	}
}

// await waits until the source fails, or does no longer.
func (w *watched) await(t *testing.T, fails bool) {
	t.Helper()
	require.Eventually(t, func() bool { return (w.Status().Err != nil) == fails }, patient, time.Millisecond, "%+v", w.Status())
}

func TestInstancesComeAndGo(t *testing.T) {
	m := startEtcd(t)
	client := m.client(t, "", "")
	register(t, client, "10.0.0.1:1")
	_, err := client.Put(t.Context(), "kitex/registry-etcd/orders2/x", value("10.9.9.9:1")) // another service
	require.NoError(t, err)
	w := watch(t, &conf.Etcd{Endpoints: []string{m.address}}, never)
	require.NoError(t, w.Await(t.Context()))
	assert.Equal(t, "10.0.0.1:1", w.next(t))
	register(t, client, "10.0.0.2:1")
	assert.Equal(t, "10.0.0.1:1 10.0.0.2:1", w.next(t))
	deregister(t, client, "10.0.0.1:1")
	assert.Equal(t, "10.0.0.2:1", w.next(t))

	// The registry loses its data: nothing goes, until there are instances again.
	deregister(t, client, "10.0.0.2:1")
	w.await(t, true)
	assert.EqualError(t, w.Status().Err, "it has no instances")
	assert.Equal(t, 1, w.Status().Instances)
	register(t, client, "10.0.0.3:1")
	assert.Equal(t, "10.0.0.3:1", w.next(t))
	w.await(t, false)
}

func TestLeaseThatExpires(t *testing.T) {
	m := startEtcd(t)
	client := m.client(t, "", "")
	lease, err := client.Grant(t.Context(), 1)
	require.NoError(t, err)
	register(t, client, "10.0.0.1:1")
	register(t, client, "10.0.0.2:1", clientv3.WithLease(lease.ID))
	w := watch(t, &conf.Etcd{Endpoints: []string{m.address}}, never)
	for w.next(t) != "10.0.0.1:1" { // at once if the lease is over by then
	}
}

func TestEntriesThatAreNoneAreLeftOut(t *testing.T) {
	m := startEtcd(t)
	client := m.client(t, "", "")
	register(t, client, "10.0.0.1:1")
	_, err := client.Put(t.Context(), key("broken"), "10.0.0.2:1")
	require.NoError(t, err)
	w := watch(t, &conf.Etcd{Endpoints: []string{m.address}}, never)
	assert.Equal(t, "10.0.0.1:1", w.next(t))
	assert.Eventually(t, func() bool { return w.Status().Refused == 1 }, patient, time.Millisecond)
}

// Calls go on while instances come and go, and while etcd is away.
func TestEtcdDiesAndComesBack(t *testing.T) {
	m := startEtcd(t)
	first, second := startBackend(t), startBackend(t)
	client := m.client(t, "", "")
	register(t, client, first)
	w := watch(t, &conf.Etcd{Endpoints: []string{m.address}}, 100*time.Millisecond)
	address := w.next(t)
	require.Equal(t, first, address)
	require.NoError(t, call(t, address))

	m.etcd.Close()
	w.await(t, true)
	assert.ErrorContains(t, w.Status().Err, "connection refused")
	assert.Equal(t, 1, w.Status().Instances)
	assert.Empty(t, w.updates)
	require.NoError(t, call(t, address))

	m.start(t)
	w.await(t, false)
	assert.Empty(t, w.updates, "etcd kept its data")
	register(t, client, second)
	deregister(t, client, first)
	for address != second {
		address = last(w.next(t))
		require.NoError(t, call(t, address))
	}
}

// A proxy that starts before etcd does says why it waits.
func TestEtcdThatIsNotUpYet(t *testing.T) {
	m := startEtcd(t)
	register(t, m.client(t, "", ""), "10.0.0.1:1")
	m.etcd.Close()
	w := watch(t, &conf.Etcd{Endpoints: []string{m.address}}, 100*time.Millisecond)
	w.await(t, true)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorContains(t, w.Await(ended), "connection refused")
	m.start(t)
	assert.Equal(t, "10.0.0.1:1", w.next(t))
}

func TestEtcdWithAPasswordThatChanges(t *testing.T) {
	m := startEtcd(t)
	open := m.client(t, "", "")
	register(t, open, "10.0.0.1:1")
	_, err := open.UserAdd(t.Context(), "root", "first")
	require.NoError(t, err)
	_, err = open.UserGrantRole(t.Context(), "root", "root")
	require.NoError(t, err)
	_, err = open.AuthEnable(t.Context())
	require.NoError(t, err)

	w := watch(t, &conf.Etcd{Endpoints: []string{m.address}}, 100*time.Millisecond)
	w.await(t, true)
	assert.ErrorContains(t, w.Status().Err, "user name is empty")

	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte("wrong\n"), 0o600))
	w = watch(t, &conf.Etcd{Endpoints: []string{m.address}, Username: "root", PasswordFile: path}, 100*time.Millisecond)
	w.await(t, true)
	assert.ErrorContains(t, w.Status().Err, "invalid user ID or password")
	require.NoError(t, os.WriteFile(path, []byte("first\n"), 0o600))
	assert.Equal(t, "10.0.0.1:1", w.next(t))
	register(t, m.client(t, "root", "first"), "10.0.0.2:1")
	assert.Equal(t, "10.0.0.1:1 10.0.0.2:1", w.next(t))
}

// startBackend runs a backend that answers health checks.
func startBackend(t *testing.T) (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener) // until Stop
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func call(t *testing.T, address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// last returns the last of several addresses.
func last(addresses string) string { return addresses[strings.LastIndexByte(addresses, ' ')+1:] }
