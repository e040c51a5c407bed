package handlertest

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A suite that passes says something only if it fails where it must. Here it
// runs through a small relay that is right (as far as grpc-go lets it) and then
// through relays with one fault each, as real relays have had them.

// fault is what a relay does wrong.
type fault string

const (
	noFault         fault = "none"
	dropTrailers    fault = "drops trailers"
	lateHeaders     fault = "sends headers with the first message"
	alwaysHeaders   fault = "sends headers that were not there"
	mixedMetadata   fault = "repeats headers in trailers"
	firstValueOnly  fault = "keeps one value of each key"
	noHalfClose     fault = "does not pass half-closes on"
	earlyHalfClose  fault = "half-closes after the first message"
	endsAtHalfClose fault = "ends the call when the client half-closes"
	detachedContext fault = "calls the backend with a context of its own"
	rewrittenStatus fault = "appends to the status message"
	droppedDetails  fault = "drops the status details"
	unboundedQueue  fault = "queues without bound"
	dropsEmpty      fault = "drops empty messages"
	swapsMessages   fault = "swaps two messages"
	announcesGzip   fault = "compresses because the client accepts it"
)

// caught says which tests must fail through which fault, and pass without it.
var caught = map[fault][]string{
	dropTrailers:    {"Metadata/ValuesInOrder", "Headers/OnFailedCall", "Status/ErrorWithTrailers"},
	lateHeaders:     {"Headers/BeforeAnyMessage/Bidi", "Headers/EmptyHeadersBeforeAnyMessage", "Headers/OnFailedCall"},
	alwaysHeaders:   {"Headers/TrailersOnly", "Headers/TrailersOnlyOK"},
	mixedMetadata:   {"Headers/ApartFromTrailers"},
	firstValueOnly:  {"Metadata/ValuesInOrder", "Metadata/BinaryValues"},
	noHalfClose:     {"Kinds/ClientStreaming", "Kinds/NoMessage", "Kinds/NoMessageHeadersEndStream", "Kinds/EndStreamAfterLastMessage"},
	earlyHalfClose:  {"Kinds/PingPong", "Kinds/EndStreamAfterLastMessage", "Kinds/ClientStreaming", "Messages/Empty"},
	endsAtHalfClose: {"Kinds/BackendSendsAfterHalfClose", "Kinds/HalfCloseWhileBackendSends"},
	detachedContext: {
		"Cancel/Context/Unary", "Cancel/ConnectionClosed/Bidi", "Cancel/SocketClosed/ServerStreaming",
		"Cancel/Reset/ClientStreaming", "Cancel/ResetBecomesReset", "Deadline/Remaining", "Deadline/Passes/Unary",
	},
	rewrittenStatus: {"Status/Codes", "Status/Messages", "Kinds/StatusBeforeHalfClose"},
	droppedDetails:  {"Status/OneDetail", "Status/ThreeDetails"},
	unboundedQueue:  {"Flow/SlowClient", "Flow/SlowBackend"},
	dropsEmpty:      {"Messages/Empty"},
	swapsMessages:   {"Messages/Order", "Kinds/Bidi"},
	announcesGzip:   {"Encoding/NoneInvented"},
}

const faultEnv = "HANDLERTEST_FAULT"

// TestThroughRelay is what TestSuiteCatchesFaults runs in processes of their
// own, since a failing subtest fails all above it.
func TestThroughRelay(t *testing.T) {
	f := fault(os.Getenv(faultEnv))
	if f == "" {
		t.Skip("started by TestSuiteCatchesFaults")
	}
	s := newSuite(t, f.relay, Options{})
	if f != noFault {
		s.safety = time.Second // many faults show as a call that hangs
	}
	s.all(t)
}

func TestSuiteCatchesFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("runs parts of the suite 16 times")
	}
	var all []string
	for _, tests := range caught {
		all = append(all, tests...)
	}
	outcomes := runThroughRelay(t, noFault, all)
	for _, test := range all {
		assert.Equal(t, "PASS", outcomes[test], "%s through a relay without a fault", test)
	}
	for f, tests := range caught {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel() // they mostly wait
			outcomes := runThroughRelay(t, f, tests)
			for _, test := range tests {
				assert.Equal(t, "FAIL", outcomes[test], test)
			}
		})
	}
}

var outcome = regexp.MustCompile(`--- (PASS|FAIL|SKIP): TestThroughRelay/(\S+)`)

// runThroughRelay returns what became of each test.
func runThroughRelay(t *testing.T, f fault, tests []string) map[string]string {
	patterns := make([]string, len(tests))
	for i, test := range tests {
		patterns[i] = "^TestThroughRelay$/^" + strings.ReplaceAll(test, "/", "$/^") + "$"
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.v", "-test.run="+strings.Join(patterns, "|"))
	cmd.Env = append(os.Environ(), faultEnv+"="+string(f))
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) { // a failing test is what it is about
		require.NoError(t, err)
	}
	outcomes := map[string]string{}
	for _, m := range outcome.FindAllStringSubmatch(string(output), -1) {
		outcomes[m[2]] = m[1]
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("through the relay that has the fault %q:\n%s", f, output)
		}
	})
	return outcomes
}

// relay is the Target: a relay with the fault.
func (f fault) relay(t *testing.T, backendAddr string) string {
	cc := dial(t, backendAddr)
	return backend(t, func(client grpc.ServerStream) error { return f.serve(client, cc) }, grpc.WaitForHandlers(false))
}

func (f fault) serve(client grpc.ServerStream, cc *grpc.ClientConn) error {
	md, _ := metadata.FromIncomingContext(client.Context())
	ctx := client.Context()
	if f == detachedContext {
		ctx = context.Background()
	}
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, f.metadata(md)))
	defer cancel()
	name, _ := grpc.MethodFromServerStream(client)
	server, err := cc.NewStream(ctx, bidi, name)
	if err != nil {
		return err
	}
	requestDone := make(chan error, 1)
	go func() { requestDone <- f.request(client, server) }()
	responseDone := make(chan error, 1)
	go func() { responseDone <- f.response(client, server) }()
	if f == endsAtHalfClose {
		select {
		case <-requestDone:
			return nil
		case err := <-responseDone:
			return err
		}
	}
	return <-responseDone
}

// metadata is what of md crosses.
func (f fault) metadata(md metadata.MD) metadata.MD {
	md = md.Copy()
	if f == firstValueOnly {
		for key := range md {
			md[key] = md[key][:1]
		}
	}
	return md
}

// request copies what the client sends.
func (f fault) request(client grpc.ServerStream, server grpc.ClientStream) error {
	err := f.copy(client.RecvMsg, func(m any) error {
		err := server.SendMsg(m)
		if err == nil && f == earlyHalfClose {
			err = server.CloseSend()
		}
		return err
	})
	if errors.Is(err, io.EOF) && f != noHalfClose {
		return server.CloseSend()
	}
	return err
}

// response copies what the backend sends, and how it ends.
func (f fault) response(client grpc.ServerStream, server grpc.ClientStream) error {
	var header metadata.MD
	sendHeader := func() error {
		var err error
		header, err = server.Header()
		if err == nil && (header != nil || f == alwaysHeaders) {
			if f == announcesGzip {
				_ = grpc.SetSendCompressor(client.Context(), "gzip") // if the client accepts it
			}
			err = client.SendHeader(f.metadata(header))
		}
		return err
	}
	if f != lateHeaders {
		if err := sendHeader(); err != nil && f != alwaysHeaders {
			return err
		}
	}
	err := f.copy(server.RecvMsg, func(m any) error {
		if header == nil && f == lateHeaders {
			if err := sendHeader(); err != nil {
				return err
			}
		}
		return client.SendMsg(m)
	})
	trailer := f.metadata(server.Trailer())
	if f == droppedDetails {
		delete(trailer, "grpc-status-details-bin") // grpc-go leaves a copy there
	}
	if f != dropTrailers {
		client.SetTrailer(trailer)
	}
	if f == mixedMetadata {
		client.SetTrailer(header)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return f.status(err)
}

func (f fault) status(err error) error {
	st := status.Convert(err)
	switch f {
	case rewrittenStatus:
		return status.Error(st.Code(), st.Message()+" [biz error]")
	case droppedDetails:
		return status.Error(st.Code(), st.Message())
	default:
		return st.Err()
	}
}

// copy moves messages until recv fails, and returns that error.
func (f fault) copy(recv, send func(any) error) error {
	if f == unboundedQueue {
		recv = queued(recv)
	}
	var held []byte // the message that waits to be overtaken
	for n := 1; ; n++ {
		var m []byte
		if err := recv(&m); err != nil {
			return err
		}
		if f == dropsEmpty && len(m) == 0 {
			continue
		}
		if f == swapsMessages && n == 2 {
			held = m
			continue
		}
		if err := send(m); err != nil {
			return err
		}
		if held != nil {
			if err := send(held); err != nil {
				return err
			}
			held = nil
		}
	}
}

// queued reads ahead as much as there is.
func queued(recv func(any) error) func(any) error {
	type item struct {
		m   []byte
		err error
	}
	queue := make(chan item, 10*pieces)
	go func() {
		for {
			var next item
			next.err = recv(&next.m)
			queue <- next
			if next.err != nil {
				return
			}
		}
	}()
	return func(m any) error {
		next := <-queue
		*m.(*[]byte) = next.m
		return next.err
	}
}
