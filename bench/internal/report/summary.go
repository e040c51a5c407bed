package report

import (
	"github.com/kitexproxy/kitexproxy/bench/internal/load"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/stats"
)

// baseline is the target that throughput is compared with. The proxy that processor time and memory are compared with is
// the scenario's Reference.
const baseline = "direct"

// Row is a target's figures in one scenario: medians over the repetitions that gave a result. Zero means "no figure".
type Row struct {
	Target    string   `json:"target"`
	Reps      int      `json:"reps"`
	Errors    int      `json:"errors"`
	Messages  []string `json:"messages,omitempty"` // some of the errors and failures
	Failures  int      `json:"failures"`
	CPU       float64  `json:"proxy_cpu_us_per_op"`
	CPULow    float64  `json:"proxy_cpu_us_per_op_low"`
	CPUHigh   float64  `json:"proxy_cpu_us_per_op_high"`
	Backend   float64  `json:"backend_cpu_us_per_op"`
	Loader    float64  `json:"loader_cpu_us_per_op"`
	OpsPerSec float64  `json:"ops_per_s"`
	P50       float64  `json:"p50_us"`
	P99       float64  `json:"p99_us"`
	PeakMiB   float64  `json:"proxy_peak_mib"`
	StreamKiB float64  `json:"proxy_kib_per_idle_stream,omitempty"`
	IdleCPU   float64  `json:"proxy_idle_cpu_us_per_s,omitempty"`
	OtherCPU  float64  `json:"other_cpu_share"`

	// TimesReference is what the target needs as a multiple of what the reference does: of processor time, or of memory for
	// idle streams. TimesBaseline is its throughput as a share of direct calls'.
	TimesReference float64 `json:"x_reference"`
	TimesBaseline  float64 `json:"x_direct"`
}

// Rows sums up one scenario, a row for each target that has samples.
func (r Run) Rows(name string) []Row {
	var rows []Row
	for _, target := range r.Targets {
		if row := r.row(name, target); row.Reps+row.Failures > 0 {
			rows = append(rows, row)
		}
	}
	s, _ := scenario.ByName(name) // of the zero Scenario it is the usual one
	compare(rows, s.Reference())
	return rows
}

func (r Run) row(scenario, target string) Row {
	row := Row{Target: target}
	var results []load.Result
	for _, s := range r.Samples {
		switch {
		case s.Scenario != scenario || s.Target != target:
		case s.Failure != "":
			row.Failures++
			row.Messages = append(row.Messages, s.Failure)
		default:
			results = append(results, s.Result)
			row.Errors += s.Result.Errors
			row.Messages = append(row.Messages, s.Result.ErrorSamples...)
		}
	}
	row.Reps = len(results)
	row.summarise(results)
	return row
}

func (row *Row) summarise(results []load.Result) {
	all := func(of func(load.Result) float64) []float64 {
		values := make([]float64, len(results))
		for i, res := range results {
			values[i] = of(res)
		}
		return values
	}
	median := func(of func(load.Result) float64) float64 { return stats.Median(all(of)) }

	cpu := func(r load.Result) float64 { return r.ProxyCPU }
	row.CPU = median(cpu)
	row.CPULow, row.CPUHigh = stats.Range(all(cpu))
	row.Backend = median(func(r load.Result) float64 { return r.BackendCPU })
	row.Loader = median(func(r load.Result) float64 { return r.LoaderCPU })
	row.OpsPerSec = median(load.Result.OpsPerSecond)
	row.P50 = median(func(r load.Result) float64 { return r.P50Micros })
	row.P99 = median(func(r load.Result) float64 { return r.P99Micros })
	row.PeakMiB = median(func(r load.Result) float64 { return r.PeakMiB })
	row.StreamKiB = median(func(r load.Result) float64 { return r.StreamKiB })
	row.IdleCPU = median(func(r load.Result) float64 { return r.IdleCPU })
	row.OtherCPU = median(func(r load.Result) float64 { return r.OtherCPU })
}

// compare fills in the ratios of medians.
func compare(rows []Row, reference string) {
	var ref, base Row
	for _, row := range rows {
		switch row.Target {
		case reference:
			ref = row
		case baseline:
			base = row
		}
	}
	for i := range rows {
		row := &rows[i]
		if row.StreamKiB != 0 {
			row.TimesReference = stats.Ratio(row.StreamKiB, ref.StreamKiB)
			continue
		}
		row.TimesReference = stats.Ratio(row.CPU, ref.CPU)
		row.TimesBaseline = stats.Ratio(row.OpsPerSec, base.OpsPerSec)
	}
}
