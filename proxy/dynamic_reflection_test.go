package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// types is what a backend tells by server reflection, for tests to change.
type types struct {
	files atomic.Pointer[protoregistry.Files]
	asked atomic.Int64 // how often it has been asked for its services
}

func newTypes(t testing.TB, source string) *types {
	t.Helper()
	ts := new(types)
	ts.become(t, source)
	return ts
}

// become has the backend tell what a .proto file says from now on.
func (ts *types) become(t testing.TB, source string) {
	t.Helper()
	s, err := schema.Compile(t.Context(), []string{writeProto(t, source)}, nil)
	require.NoError(t, err)
	ts.files.Store(s.Files())
}

// FindFileByPath implements protodesc.Resolver.
func (ts *types) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	return ts.files.Load().FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (ts *types) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	return ts.files.Load().FindDescriptorByName(name)
}

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (ts *types) GetServiceInfo() map[string]grpc.ServiceInfo {
	ts.asked.Add(1)
	all := make(map[string]grpc.ServiceInfo)
	ts.files.Load().RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			all[string(f.Services().Get(i).FullName())] = grpc.ServiceInfo{}
		}
		return true
	})
	return all
}

func (ts *types) options() reflection.ServerOptions {
	return reflection.ServerOptions{Services: ts, DescriptorResolver: ts}
}

// v1 registers server reflection.
func (ts *types) v1(s *grpc.Server) {
	reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(ts.options()))
}

// v1alpha registers the older version of it.
func (ts *types) v1alpha(s *grpc.Server) {
	reflectionv1alpha.RegisterServerReflectionServer(s, reflection.NewServer(ts.options()))
}

// noteFile is a service whose messages have a text in the field of that number.
func noteFile(field, number string) string {
	return `syntax = "proto3"; package notes.v1;
service Notes { rpc Say(Note) returns (Note); rpc Talk(stream Note) returns (stream Note); }
message Note { string ` + field + ` = ` + number + `; }`
}

func note(number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), text)
}

const shoutNotes = `- {name: shout, on: request, set: {text: 'message.text + "!"'}}`

// startReflected runs a proxy with rules for the service of noteFile, whose types
// a backend tells, and which the start waits for.
func startReflected(t testing.TB, main, types string, refresh time.Duration, rules string) *dynamicSetup {
	t.Helper()
	return startReflectedWithin(t, faultSafety, main, types, refresh, rules)
}

// startUnreflected is startReflected for types that do not come, or not at first: the
// start soon goes on without them.
func startUnreflected(t testing.TB, main, types string, refresh time.Duration, rules string) *dynamicSetup {
	t.Helper()
	return startReflectedWithin(t, 200*time.Millisecond, main, types, refresh, rules)
}

func startReflectedWithin(t testing.TB, wait time.Duration, main, types string, refresh time.Duration, rules string) *dynamicSetup {
	t.Helper()
	d := &dynamicSetup{log: new(logBuffer)}
	cfg := dynamicConfig(t, main, types, "schemas: {notes: {reflection: {cluster: other, refresh: "+refresh.String()+"}}}\nroutes:\n"+
		proxytest.Route("service: notes.v1.Notes", "notes", rules))
	cfg.Timeouts.Connect = conf.Duration(wait) // what the start waits for a schema, too
	d.faultProxy = startFaultProxy(t, cfg, proxy.WithLogger(d.log.logger()))
	return d
}

// said makes a call with a text in the first field, and returns the answer's.
func (d *dynamicSetup) said(t testing.TB, text string) string {
	t.Helper()
	o := d.invokeRaw(t, "/notes.v1.Notes/Say", nil, [][]byte{note(1, text)})
	if o.code != codes.OK {
		return o.code.String()
	}
	require.Len(t, o.messages, 1)
	_, _, n := protowire.ConsumeTag(o.messages[0])
	got, _ := protowire.ConsumeString(o.messages[0][n:])
	return got
}

// becomes waits until a call has an answer.
func (d *dynamicSetup) becomes(t testing.TB, text, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return d.said(t, text) == want }, faultSafety, 10*time.Millisecond, "the answer never becomes %q", want)
}

func TestDynamicReflection(t *testing.T) {
	for name, register := range map[string]func(*types) func(*grpc.Server){
		"v1":         func(ts *types) func(*grpc.Server) { return ts.v1 },
		"v1alpha":    func(ts *types) func(*grpc.Server) { return ts.v1alpha },
		"both of it": func(ts *types) func(*grpc.Server) { return func(s *grpc.Server) { ts.v1(s); ts.v1alpha(s) } },
	} {
		t.Run(name, func(t *testing.T) {
			ts := newTypes(t, noteFile("text", "1"))
			backend := startWitness(t, "main", register(ts))
			d := startReflected(t, backend.addr, backend.addr, 0, shoutNotes)
			require.Equal(t, "hello!", d.said(t, "hello"), "the proxy is ready only with its schema")
			o := d.invokeRaw(t, "/notes.v1.Notes/Talk", nil, [][]byte{note(1, "a"), note(1, "b")})
			require.Equal(t, [][]byte{note(1, "a!"), note(1, "b!")}, o.messages)
			require.Equal(t, [][]byte{note(1, "hello!")}, backend.next(t).messages)
			d.lives() // which counts the streams that reflection has left
			require.EqualValues(t, 1, ts.asked.Load(), "refresh: 0 is never")
		})
	}
}

// Before the schema has come, calls are refused: their rules would be left out.
func TestDynamicReflectionComesLater(t *testing.T) {
	backend := startWitness(t, "main")
	address := loopback.Free(t)
	d := startUnreflected(t, backend.addr, address, 0, shoutNotes+"\n- {name: end, on: end, metadata: {set: {a: '\"b\"'}}}")
	for range 3 {
		o := d.invokeRaw(t, "/notes.v1.Notes/Say", nil, [][]byte{note(1, "secret")})
		requireFailure(t, o.callResult, codes.Unavailable, stream.Rejected, `"notes"`, `"other"`)
	}
	o := d.invokeRaw(t, "/notes.v1.Notes/Unknown", nil, [][]byte{{0xff}})
	require.Equal(t, codes.Unavailable, o.code, "that too, as nothing is known of it")
	backend.unasked(t)
	d.healthy(t)
	require.Contains(t, d.log.String(), "there is no schema yet")

	ln, err := net.Listen("tcp", address)
	require.NoError(t, err)
	t.Cleanup((&witness{calls: make(chan *seen, 9)}).serve(ln, newTypes(t, noteFile("text", "1")).v1))
	d.becomes(t, "hello", "hello!")
	require.Equal(t, [][]byte{note(1, "hello!")}, backend.next(t).messages, "no call has got past its rules")
	backend.unasked(t)
	d.lives()
}

// A refresh has the rules fit what the backend says now.
func TestDynamicReflectionRefreshes(t *testing.T) {
	t.Parallel() // it waits for refreshes
	ts := newTypes(t, noteFile("text", "1"))
	backend := startWitness(t, "main", ts.v1)
	d := startReflected(t, backend.addr, backend.addr, time.Second, shoutNotes)
	require.Equal(t, "hello!", d.said(t, "hello"))

	running := d.open(t, "/notes.v1.Notes/Talk", nil) // begins with the rules as they are
	m := note(1, "a")
	require.NoError(t, running.SendMsg(&m))
	var reply []byte
	require.NoError(t, running.RecvMsg(&reply))
	require.Equal(t, note(1, "a!"), reply)

	ts.become(t, noteFile("text", "2")) // the text has moved to another field
	d.becomes(t, "hello", "!")
	o := d.invokeRaw(t, "/notes.v1.Notes/Say", nil, [][]byte{note(2, "hello")})
	require.Equal(t, [][]byte{note(2, "hello!")}, o.messages)

	m = note(1, "b")
	require.NoError(t, running.SendMsg(&m))
	require.NoError(t, running.RecvMsg(&reply))
	require.Equal(t, note(1, "b!"), reply, "a call keeps the rules that it began with")
	require.NoError(t, running.CloseSend())
	require.Equal(t, codes.OK, finish(running).code)
}

// A second generation of a backend, at the same address.
func TestDynamicReflectionOfABackendThatIsReplaced(t *testing.T) {
	t.Parallel() // it waits for refreshes
	address := loopback.Free(t)
	ln, err := net.Listen("tcp", address)
	require.NoError(t, err)
	w := &witness{calls: make(chan *seen, 10_000)}
	stop := w.serve(ln, newTypes(t, noteFile("text", "1")).v1)
	d := startReflected(t, address, address, time.Second, shoutNotes)
	require.Equal(t, "hello!", d.said(t, "hello"))
	stop()
	ln, err = net.Listen("tcp", address)
	require.NoError(t, err)
	t.Cleanup(w.serve(ln, newTypes(t, noteFile("text", "2")).v1))
	d.becomes(t, "hello", "!")
	d.lives()
}

// What does not fit the rules of any route changes none of them.
func TestDynamicReflectionThatBreaksARuleIsRefused(t *testing.T) {
	t.Parallel() // it waits for refreshes
	ts := newTypes(t, noteFile("text", "1"))
	backend := startWitness(t, "main", ts.v1)
	d := &dynamicSetup{log: new(logBuffer)}
	cfg := dynamicConfig(t, backend.addr, backend.addr, "schemas: {notes: {reflection: {cluster: other, refresh: 1s}}}\nroutes:\n"+
		proxytest.Route("method: /notes.v1.Notes/Talk", "notes", `- {name: talk, on: request, clear: [nope]}`)+
		proxytest.Route("service: notes.v1.Notes", "notes", shoutNotes))
	cfg.Routes[0].Rules[0].Clear[0] = "text"
	d.faultProxy = startFaultProxy(t, cfg, proxy.WithLogger(d.log.logger()))
	require.Equal(t, "hello!", d.said(t, "hello"))

	for _, source := range []string{noteFile("other_name", "1"), `syntax = "proto3"; package notes.v1; service Gone {}`} {
		before := ts.asked.Load()
		ts.become(t, source)
		require.Eventually(t, func() bool { return ts.asked.Load() >= before+2 }, faultSafety, 10*time.Millisecond, "a fetch that was refused is made again")
		require.Equal(t, "hello!", d.said(t, "hello"), "the old rules stay")
	}
	log := d.log.String()
	require.Contains(t, log, "the schema cannot be refreshed; the old one stays in use")
	require.Contains(t, log, "proxy.yaml:")
	require.Contains(t, log, "routes[0].rules[0].clear[0]")
	require.Contains(t, log, "routes[1].rules[0].set.text")
	// There may be a third: of a fetch that began before a change and ended after it.
	reasons := regexp.MustCompile(`the schema cannot be refreshed.*error=(.*)`).FindAllStringSubmatch(log, -1)
	told := map[string]bool{}
	for _, r := range reasons {
		require.False(t, told[r[1]], "each reason is told once:\n%s", log)
		told[r[1]] = true
	}
	require.GreaterOrEqual(t, len(told), 2)

	ts.become(t, noteFile("text", "2"))
	d.becomes(t, "hello", "!")
	require.Contains(t, d.log.String(), "the schema is up to date again")
	d.lives()
}

// What fits the rules of one route, and not those of another, changes neither.
func TestDynamicReflectionThatBreaksARuleOfOneRoute(t *testing.T) {
	t.Parallel() // it waits for refreshes
	ts := newTypes(t, noteFile("text", "1"))
	backend := startWitness(t, "main", ts.v1)
	cfg := dynamicConfig(t, backend.addr, backend.addr, "schemas: {notes: {reflection: {cluster: other, refresh: 1s}}}\nroutes:\n"+
		proxytest.Route("method: /notes.v1.Notes/Talk", "notes", `- {name: talk, on: request, clear: [text]}`)+
		proxytest.Route("service: notes.v1.Notes", "notes", shoutNotes))
	d := &dynamicSetup{log: new(logBuffer)}
	d.faultProxy = startFaultProxy(t, cfg, proxy.WithLogger(d.log.logger()))
	before := ts.asked.Load()
	ts.become(t, `syntax = "proto3"; package notes.v1;
service Notes { rpc Say(Note) returns (Note); rpc Talk(stream Memo) returns (stream Memo); }
message Note { string other_name = 1; }
message Memo { string text = 2; }`)
	require.Eventually(t, func() bool { return ts.asked.Load() >= before+2 }, faultSafety, 10*time.Millisecond)
	require.Equal(t, "hello!", d.said(t, "hello"))
	o := d.invokeRaw(t, "/notes.v1.Notes/Talk", nil, [][]byte{append(note(1, "a"), note(2, "b")...)})
	require.Equal(t, [][]byte{note(2, "b")}, o.messages)
}

// A rule that never fits keeps its calls refused, with the reason in the log.
func TestDynamicReflectionThatNeverFits(t *testing.T) {
	ts := newTypes(t, noteFile("other_name", "1"))
	backend := startWitness(t, "main", ts.v1)
	d := startUnreflected(t, backend.addr, backend.addr, 0, shoutNotes)
	require.Equal(t, "Unavailable", d.said(t, "hello"))
	require.Contains(t, d.log.String(), "calls whose rules need it are answered with UNAVAILABLE for now")
	require.Contains(t, d.log.String(), "routes[0].rules[0].set.text")
	ts.become(t, noteFile("text", "1"))
	d.becomes(t, "hello", "hello!")
}

func TestDynamicReflectionOfABackendWithoutIt(t *testing.T) {
	main, types := startWitness(t, "main"), startWitness(t, "types")
	d := startUnreflected(t, main.addr, types.addr, 0, shoutNotes)
	require.Equal(t, "Unavailable", d.said(t, "hello"))
	require.Contains(t, d.log.String(), "the backend has no server reflection, neither v1 nor v1alpha")
	main.unasked(t)
	d.lives()
}

// Instances that are down do not keep a schema from coming, and neither do those
// that have no reflection.
func TestDynamicReflectionOfAClusterWithInstancesDown(t *testing.T) {
	backend := startWitness(t, "main", newTypes(t, noteFile("text", "1")).v1)
	cfg := dynamicConfig(t, backend.addr, loopback.Free(t), "schemas: {notes: {reflection: {cluster: other}}}\nroutes:\n"+
		proxytest.Route("service: notes.v1.Notes", "notes", shoutNotes))
	for range 5 {
		cfg.Clusters["other"].Instances = append(cfg.Clusters["other"].Instances, loopback.Free(t))
	}
	cfg.Clusters["other"].Instances = append(cfg.Clusters["other"].Instances, backend.addr)
	d := &dynamicSetup{log: new(logBuffer)}
	d.faultProxy = startFaultProxy(t, cfg, proxy.WithLogger(d.log.logger()))
	require.Equal(t, "hello!", d.said(t, "hello"))
	require.NotContains(t, d.log.String(), "there is no schema yet")
	d.lives()
}

// One schema for several routes; and none is asked for that no rule needs.
func TestDynamicReflectionIsAskedForRulesOnly(t *testing.T) {
	ts := newTypes(t, noteFile("text", "1"))
	backend := startWitness(t, "main", ts.v1)
	cfg := dynamicConfig(t, backend.addr, backend.addr, "schemas: {notes: {reflection: {cluster: other}}}\nroutes:\n"+
		proxytest.Route("service: notes.v1.Notes", "notes", ""))
	d := &dynamicSetup{log: new(logBuffer)}
	d.faultProxy = startFaultProxy(t, cfg, proxy.WithLogger(d.log.logger()))
	require.Equal(t, "hello", d.said(t, "hello"))
	require.Zero(t, ts.asked.Load())
}

// A service whose types cannot be had any more, of a default: its rules must not
// just be gone.
func TestDynamicReflectionThatLosesAService(t *testing.T) {
	t.Parallel() // it waits for refreshes
	lost := new(atomic.Bool)
	ts := newTypes(t, noteFile("text", "1")+"\nservice Others { rpc Do(Note) returns (Note); }")
	withholding := &withholding{types: ts, lost: lost}
	backend := startWitness(t, "main", func(s *grpc.Server) {
		reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(reflection.ServerOptions{Services: withholding, DescriptorResolver: withholding}))
	})
	cfg := dynamicConfig(t, backend.addr, backend.addr, "schemas: {notes: {reflection: {cluster: other, refresh: 1s}}}\ndefault:\n"+
		"  cluster: main\n  mode: dynamic\n  schema: notes\n"+proxytest.Rules("  ", `- {name: no, on: start, if: service == "notes.v1.Notes", reject: {code: ABORTED}}`))
	d := &dynamicSetup{log: new(logBuffer)}
	d.faultProxy = startFaultProxy(t, cfg, proxy.WithLogger(d.log.logger()))
	require.Equal(t, "Aborted", d.said(t, "hello"))
	lost.Store(true)
	before := ts.asked.Load()
	require.Eventually(t, func() bool { return ts.asked.Load() >= before+3 }, faultSafety, 10*time.Millisecond)
	require.Equal(t, "Aborted", d.said(t, "hello"))
	require.Contains(t, d.log.String(), `default.schema: \"notes\" has the service notes.v1.Notes no more`)
}

// withholding lists its services, and has nothing of one of them once that is
// lost.
type withholding struct {
	*types
	lost *atomic.Bool
}

func (w *withholding) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if name == "notes.v1.Notes" && w.lost.Load() {
		return nil, protoregistry.NotFound
	}
	return w.types.FindDescriptorByName(name)
}

// Many calls while the rules change all the time: each has all rules of one
// generation.
func TestDynamicReflectionUnderLoad(t *testing.T) {
	t.Parallel() // it waits for refreshes
	ts := newTypes(t, noteFile("text", "1"))
	backend := startWitness(t, "main", ts.v1)
	// The two rules of a generation mark the same field.
	d := startReflected(t, backend.addr, backend.addr, time.Second, `- {name: one, on: request, set: {text: 'message.text + "1"'}}
- {name: two, on: response, set: {text: 'message.text + "2"'}}`)
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan string, 4)
	for range cap(results) {
		go func() { // ends with ctx
			for ctx.Err() == nil {
				request := append(note(1, "x"), note(2, "y")...)
				var reply []byte
				if err := d.client.Invoke(ctx, "/notes.v1.Notes/Say", &request, &reply); err != nil && ctx.Err() == nil {
					results <- err.Error()
					return
				}
				switch got := string(reply); {
				case ctx.Err() != nil:
				case got != string(append(note(1, "x12"), note(2, "y")...)) && got != string(append(note(2, "y12"), note(1, "x")...)):
					results <- "half of the rules: " + got
					return
				}
			}
			results <- ""
		}()
	}
	for i := range 3 {
		before := ts.asked.Load()
		ts.become(t, noteFile("text", []string{"2", "1"}[i%2]))
		require.Eventually(t, func() bool { return ts.asked.Load() >= before+2 || len(results) > 0 }, faultSafety, 10*time.Millisecond)
		for len(backend.calls) > 0 {
			<-backend.calls
		}
	}
	cancel()
	for range cap(results) {
		require.Empty(t, <-results)
	}
	d.lives()
}

// notesWith is a service with that many methods beside Say.
func notesWith(n int) string {
	var methods strings.Builder
	for i := range n {
		fmt.Fprintf(&methods, "rpc M%d(Note) returns (Note);\n", i)
	}
	return strings.Replace(noteFile("text", "1"), "rpc Say", methods.String()+"rpc Say", 1)
}

func TestDynamicReflectionOfTooManyMethods(t *testing.T) {
	var rules strings.Builder
	for i := range 50 {
		fmt.Fprintf(&rules, "- {name: r%d, on: start, metadata: {remove: [a]}}\n", i)
	}
	ts := newTypes(t, notesWith(200))
	backend := startWitness(t, "main", ts.v1)
	d := startUnreflected(t, backend.addr, backend.addr, time.Second, rules.String())
	require.Equal(t, "Unavailable", d.said(t, "hello"))
	require.Contains(t, d.log.String(), "routes[0].rules: are for too many methods: 10100 filters would be made of them")
	ts.become(t, noteFile("text", "1"))
	d.becomes(t, "hello", "hello")
}

// The end does not wait until all filters are made.
func TestDynamicReflectionEndsWhileFiltersAreMade(t *testing.T) {
	backend := startWitness(t, "main", newTypes(t, notesWith(9_900)).v1)
	var values []string
	for i := range 50 { // so that it takes minutes
		values = append(values, fmt.Sprintf(`x%d: 'message.text.substring(%d) + "x"'`, i, i))
	}
	d := startUnreflected(t, backend.addr, backend.addr, time.Second,
		"- {name: slow, on: request, metadata: {set: {"+strings.Join(values, ", ")+"}}}")
	require.Eventually(t, func() bool {
		stacks := make([]byte, 1<<20)
		return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("proxy.(*compilation).method"))
	}, faultSafety, 10*time.Millisecond)
	require.Equal(t, "Unavailable", d.said(t, "hello"))
	require.NoError(t, d.stop())
}

func TestDynamicReflectionLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("while it is fetched again and again", func(t *testing.T) {
		ts := newTypes(t, noteFile("text", "1"))
		backend := startWitness(t, "main", ts.v1)
		d := startReflected(t, backend.addr, backend.addr, time.Second, shoutNotes)
		require.Eventually(t, func() bool { return ts.asked.Load() >= 2 }, faultSafety, 10*time.Millisecond)
		d.lives()
		require.NoError(t, d.stop())
	})
	t.Run("while it never comes", func(t *testing.T) {
		backend := startWitness(t, "main")
		d := startUnreflected(t, backend.addr, loopback.Free(t), 0, shoutNotes)
		require.NoError(t, d.stop())
	})
	t.Run("while a backend hangs", func(t *testing.T) {
		hanging := startWitness(t, "hanging", func(s *grpc.Server) {
			reflectionv1.RegisterServerReflectionServer(s, hangingReflection{})
		})
		d := startUnreflected(t, hanging.addr, hanging.addr, 0, shoutNotes)
		require.Equal(t, "Unavailable", d.said(t, "hello"))
		require.NoError(t, d.stop())
	})
	t.Run("of a relay", func(t *testing.T) {
		backend := startWitness(t, "main", newTypes(t, noteFile("text", "1")).v1)
		relay, err := proxy.NewRelay(dynamicConfig(t, backend.addr, backend.addr, "schemas: {notes: {reflection: {cluster: other}}}\nroutes:\n"+
			proxytest.Route("service: notes.v1.Notes", "notes", shoutNotes)), proxy.WithLogger(faultLogger()))
		require.NoError(t, err)
		relay.Shutdown(t.Context())
		relay.Shutdown(t.Context())
	})
	goleak.VerifyNone(t, append(handlertest.LeakOptions(), before)...)
}

// hangingReflection takes questions, and answers none.
type hangingReflection struct {
	reflectionv1.UnimplementedServerReflectionServer
}

func (hangingReflection) ServerReflectionInfo(s reflectionv1.ServerReflection_ServerReflectionInfoServer) error {
	<-s.Context().Done()
	return s.Context().Err()
}
