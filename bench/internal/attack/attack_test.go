package attack

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/backend"
)

func startBackend(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := backend.New()
	go func() { _ = server.Serve(lis) }() // ends with Stop
	t.Cleanup(server.Stop)
	return lis.Addr().String()
}

// TestEachAttackRunsAndReports says nothing of what attacks do, only that they are made and that their ends are told.
func TestEachAttackRunsAndReports(t *testing.T) {
	addr := startBackend(t)
	for _, a := range All {
		t.Run(a.Name, func(t *testing.T) {
			const rate = 50_000 // the machine has other things to do
			res := a.Run(t.Context(), Config{Addr: addr, Rate: rate, Duration: 60 * time.Millisecond})
			t.Logf("%.0f frames/s on %d connections; cut off: %s", res.FramesPerSecond(), res.Connections, res)
			if res.Failure != "" || res.Connections == 0 {
				t.Errorf("no connection: %+v", res)
			}
			if res.Frames == 0 || res.Bytes == 0 || res.Seconds == 0 {
				t.Errorf("nothing was sent: %+v", res)
			}
		})
	}
}

func TestGarbageIsSeenToBeCutOff(t *testing.T) {
	garbage, err := ByName("garbage")
	if err != nil {
		t.Fatal(err)
	}
	res := garbage.Run(t.Context(), Config{Addr: startBackend(t), Duration: 200 * time.Millisecond})
	if len(res.Ends) == 0 || res.Connections < 2 {
		t.Errorf("got %+v", res)
	}
}

func TestHonestCallsAreAnswered(t *testing.T) {
	calls, err := ByName("none-but-calls")
	if err != nil {
		t.Fatal(err)
	}
	res := calls.Run(t.Context(), Config{Addr: startBackend(t), Duration: 200 * time.Millisecond})
	if res.Frames <= 4*honestCalls || res.Connections != 1 || len(res.Resets) > 0 {
		t.Errorf("got %+v", res)
	}
}

func TestRateIsKept(t *testing.T) {
	pings, err := ByName("ping-flood")
	if err != nil {
		t.Fatal(err)
	}
	res := pings.Run(t.Context(), Config{Addr: startBackend(t), Rate: 1000, Duration: 300 * time.Millisecond})
	if got := res.FramesPerSecond(); got > 1200 {
		t.Errorf("%.0f frames a second, want 1000 at most", got)
	}
}

func TestEndOfContextEndsTheAttack(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	addr, start := startBackend(t), time.Now()
	for _, a := range All[:3] {
		a.Run(ctx, Config{Addr: addr, Duration: time.Minute})
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestUnknownAttackIsAnsweredWithTheKnownOnes(t *testing.T) {
	if _, err := ByName("slowloris"); err == nil {
		t.Error("taken")
	}
}
