package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/load"
)

func busy(target string, rep int, cpu, rate float64) Sample {
	return Sample{Target: target, Scenario: "unary-1k", Rep: rep, Result: load.Result{
		Ops: uint64(rate), Seconds: 1, ProxyCPU: cpu, P50Micros: 100, P99Micros: 900, PeakMiB: 20,
	}}
}

func testRun() Run {
	return Run{
		Date: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Command: "go run .", Reps: 3, Duration: time.Second,
		Targets: []string{"direct", "kitexproxy", "mwitkow"}, Scenarios: []string{"unary-1k"},
		Samples: []Sample{
			busy("direct", 1, 0, 40000), busy("direct", 2, 0, 42000), busy("direct", 3, 0, 41000),
			busy("kitexproxy", 1, 11, 30000), busy("kitexproxy", 2, 10, 30750), busy("kitexproxy", 3, 99, 31000),
			busy("mwitkow", 1, 55, 14000), busy("mwitkow", 2, 60, 13000), busy("mwitkow", 3, 50, 12000),
		},
	}
}

func markdown(t *testing.T, r Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTableHasMediansAndRatios(t *testing.T) {
	text := markdown(t, testRun())
	for _, want := range []string{
		"| target | CPU us/op | x mwitkow | ops/s | x direct | p50 us | p99 us | peak MiB | errors |",
		"| direct | - | - | 41000 | 1.00 | 100 | 900 | 20.0 | 0 |",
		"| kitexproxy | 11.0 | 0.20 | 30750 | 0.75 | 100 | 900 | 20.0 | 0 |",
		"| mwitkow | 55.0 | 1.00 | 13000 | 0.32 | 100 | 900 | 20.0 | 0 |",
		"kitexproxy 10.0-99.0, mwitkow 50.0-60.0.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in:\n%s", want, text)
		}
	}
}

func TestTargetWithErrorsIsMarked(t *testing.T) {
	r := testRun()
	r.Samples[3].Result.Errors = 2
	r.Samples[3].Result.ErrorSamples = []string{"reply of 9 bytes, want 1024"}
	r.Samples[6] = Sample{Target: "mwitkow", Scenario: "unary-1k", Failure: "mwitkow: exit status 1; it last wrote:\npanic"}
	text := markdown(t, r)
	for _, want := range []string{
		"| **kitexproxy (!)** |",
		"    reply of 9 bytes, want 1024",
		"| **mwitkow (!)** | 55.0 | 1.00 |",
		"| 0, and 1 of 3 runs failed |",
		"    panic",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in:\n%s", want, text)
		}
	}
	if !r.Failed() {
		t.Error("the run passes for a good one")
	}
}

func TestDisturbanceIsTold(t *testing.T) {
	r := testRun()
	for i := range r.Samples {
		r.Samples[i].Result.OtherCPU = 0.3
	}
	if text := markdown(t, r); !strings.Contains(text, "**Disturbed:**") {
		t.Errorf("not told in:\n%s", text)
	}
	if text := markdown(t, testRun()); strings.Contains(text, "**Disturbed:**") {
		t.Errorf("told of a quiet run:\n%s", text)
	}
}

func TestWithoutReferenceThereAreNoRatios(t *testing.T) {
	r := testRun()
	r.Targets, r.Samples = r.Targets[1:2], r.Samples[3:6]
	if text := markdown(t, r); !strings.Contains(text, "| kitexproxy | 11.0 | - | 30750 | - |") {
		t.Errorf("got:\n%s", text)
	}
}

// TestScenarioHasItsOwnReference: nobody compares JSON with a gRPC proxy. Targets that do not speak it have no rows.
func TestScenarioHasItsOwnReference(t *testing.T) {
	of := func(target string, cpu float64) Sample {
		s := busy(target, 1, cpu, 1000)
		s.Scenario = "unary-json"
		return s
	}
	r := Run{
		Targets: []string{"mwitkow", "gateway", "grpc-gateway"}, Scenarios: []string{"unary-json", "unary-1k"},
		Samples: []Sample{of("gateway", 90), of("grpc-gateway", 60)},
	}
	text := markdown(t, r)
	if !strings.Contains(text, "| x grpc-gateway |") || !strings.Contains(text, "| gateway | 90.0 | 1.50 | 1000 |") {
		t.Errorf("got:\n%s", text)
	}
	if strings.Contains(text, "mwitkow") || strings.Contains(text, "unary-1k") {
		t.Errorf("a table or row without figures:\n%s", text)
	}
}

func TestJSONHasEverySample(t *testing.T) {
	var b bytes.Buffer
	if err := testRun().JSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Tables []struct {
			Rows []Row `json:"rows"`
		} `json:"tables"`
		Samples []Sample `json:"samples"`
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Samples) != 9 || len(got.Tables) != 1 || len(got.Tables[0].Rows) != 3 {
		t.Errorf("got %d samples, %d tables", len(got.Samples), len(got.Tables))
	}
}
