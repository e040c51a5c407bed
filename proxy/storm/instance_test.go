package storm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// callKey is the metadata in which a call says which one it is.
const callKey = "storm-call"

// clusters are the names of those that the configurations have.
var clusters = []string{"main", "other"}

// instance is a backend: a server of grpc-go that has the echo service.
type instance struct {
	cluster, address string
	fleet            *fleet
	server           *grpc.Server
	served           chan error

	slow   atomic.Bool  // it takes its time for each message
	killed atomic.Bool  // set before it is
	calls  atomic.Int64 // under way
}

// slowness is what a slow instance takes for a message.
const slowness = 30 * time.Millisecond

// fleet is the instances that there are and have been, and the files that discovery
// learns of the present ones from.
type fleet struct {
	t   testing.TB
	dir string

	mu     sync.Mutex
	alive  []*instance
	killed map[string]bool        // addresses
	began  map[string][]*instance // by the call: where a handler has begun
	ending sync.WaitGroup         // graceful stops under way
}

func newFleet(t testing.TB) *fleet {
	f := &fleet{t: t, dir: t.TempDir(), killed: make(map[string]bool), began: make(map[string][]*instance)}
	t.Cleanup(func() {
		for _, in := range f.present("") {
			in.server.Stop()
			<-in.served
		}
		f.ending.Wait()
	})
	return f
}

// file is what discovery finds the instances of a cluster in.
func (f *fleet) file(cluster string) string { return filepath.Join(f.dir, cluster+".yaml") }

// add has a cluster get an instance more, which is not published yet.
func (f *fleet) add(cluster string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(f.t, err)
	in := &instance{cluster: cluster, address: ln.Addr().String(), fleet: f, served: make(chan error, 1)}
	in.server = grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(in.serve), grpc.WaitForHandlers(true))
	go func() { in.served <- in.server.Serve(ln) }() // ends with stop or kill
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alive = append(f.alive, in)
}

// publish writes the present instances of a cluster to its file.
func (f *fleet) publish(cluster string) {
	var list strings.Builder
	for i, in := range f.present(cluster) {
		_, _ = fmt.Fprintf(&list, "- {address: '%s', weight: %d}\n", in.address, 1+i%3)
	}
	file := f.file(cluster)
	require.NoError(f.t, os.WriteFile(file+".new", []byte(list.String()), 0o600))
	require.NoError(f.t, os.Rename(file+".new", file))
}

// present returns the instances of a cluster, those of all with "".
func (f *fleet) present(cluster string) []*instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.alive), func(in *instance) bool { return cluster != "" && in.cluster != cluster })
}

// take removes an instance from those that are alive.
func (f *fleet) take(in *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alive = slices.DeleteFunc(f.alive, func(other *instance) bool { return other == in })
}

// kill ends an instance with all its calls, as a crash does; discovery learns of it
// later.
func (f *fleet) kill(in *instance) {
	f.take(in)
	in.killed.Store(true)
	f.mu.Lock()
	f.killed[in.address] = true
	f.mu.Unlock()
	in.server.Stop()
	<-in.served
}

// awaitCall waits until an instance has a call under way, or for a while at most: it may
// be in no use.
func (in *instance) awaitCall(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for in.calls.Load() == 0 && rest(ctx, time.Millisecond) {
	}
}

// stop has an instance drain, which is with GOAWAY.
func (f *fleet) stop(in *instance) {
	f.take(in)
	f.ending.Go(func() { // ends with the last call
		in.server.GracefulStop()
		<-in.served
	})
}

// note notes that an instance has begun a call.
func (f *fleet) note(call string, in *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.began[call] = append(f.began[call], in)
}

// forget forgets a call, and returns the instances that have begun it.
func (f *fleet) forget(call string) []*instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	began := f.began[call]
	delete(f.began, call)
	return began
}

// forgetAll forgets calls that an instance has begun when their deadline had passed.
func (f *fleet) forgetAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.began)
}

// namesKilled reports whether a message names an instance that has been killed.
func (f *fleet) namesKilled(message string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for address := range f.killed {
		if strings.Contains(message, "instance "+address+":") {
			return true
		}
	}
	return false
}

// serve is the echo service.
func (in *instance) serve(_ any, ss grpc.ServerStream) error {
	in.calls.Add(1)
	defer in.calls.Add(-1)
	md, _ := metadata.FromIncomingContext(ss.Context())
	in.fleet.note(strings.Join(md.Get(callKey), ""), in)
	method, _ := grpc.MethodFromServerStream(ss)
	var all echo.EchoReply
	for {
		var raw []byte
		if err := ss.RecvMsg(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if in.slow.Load() {
			time.Sleep(slowness) // it is slow
		}
		var m echo.EchoRequest
		if err := m.Unmarshal(raw); err != nil {
			return err
		}
		replies := 1
		switch method {
		case unary.method(), collect.method():
			all.Message += m.Message
			all.Payload = append(all.Payload, m.Payload...)
			continue
		case expand.method():
			replies = int(m.Count)
		}
		for range replies {
			if err := send(ss, &echo.EchoReply{Message: m.Message, Payload: m.Payload}); err != nil {
				return err
			}
		}
	}
	if method == unary.method() || method == collect.method() {
		return send(ss, &all)
	}
	return nil
}

// message is what the generated types have in common.
type message interface {
	Marshal(out []byte) ([]byte, error)
}

// send sends a message on either end of a stream.
func send(s interface{ SendMsg(m any) error }, m message) error {
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	return s.SendMsg(&b)
}

// bytesCodec sends and receives *[]byte as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string                       { return "proto" }
func (bytesCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
