package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
)

// disturbedShare is how much of the machine others may use before the reader is told.
const disturbedShare = 0.10

// columnOf is one column of a table.
type columnOf[T any] struct {
	head string
	cell func(T) string
}

type column = columnOf[Row]

var (
	target = column{"target", func(r Row) string {
		if r.Errors+r.Failures > 0 {
			return "**" + r.Target + " (!)**"
		}
		return r.Target
	}}
	errorCount = column{"errors", func(r Row) string {
		if r.Failures > 0 {
			return fmt.Sprintf("%d, and %d of %d runs failed", r.Errors, r.Failures, r.Failures+r.Reps)
		}
		return strconv.Itoa(r.Errors)
	}}
	peak = column{"peak MiB", func(r Row) string { return figure(r.PeakMiB) }}
)

// timesReference is how a row compares with the target of that name.
func timesReference(name string) column {
	return column{"x " + name, func(r Row) string { return figure(r.TimesReference) }}
}

func busyColumns(reference string) []column {
	return []column{
		target,
		{"CPU us/op", func(r Row) string { return figure(r.CPU) }},
		timesReference(reference),
		{"ops/s", func(r Row) string { return figure(r.OpsPerSec) }},
		{"x direct", func(r Row) string { return figure(r.TimesBaseline) }},
		{"p50 us", func(r Row) string { return figure(r.P50) }},
		{"p99 us", func(r Row) string { return figure(r.P99) }},
		peak,
		errorCount,
	}
}

func idleColumns(reference string) []column {
	return []column{
		target,
		{"KiB/stream", func(r Row) string { return figure(r.StreamKiB) }},
		timesReference(reference),
		{"CPU us/s while idle", func(r Row) string {
			if r.PeakMiB == 0 {
				return "-" // no proxy; a proxy at rest really uses nothing
			}
			return fmt.Sprintf("%.0f", r.IdleCPU)
		}},
		peak,
		errorCount,
	}
}

// Markdown writes the whole report.
func (r Run) Markdown(w io.Writer) error {
	var b strings.Builder
	r.writeHead(&b)
	r.writeScaling(&b)
	r.writeAttacks(&b)
	for _, name := range r.Scenarios {
		if isScaling(name) {
			continue // in one table
		}
		rows := r.Rows(name)
		if s, err := scenario.ByName(name); err == nil && len(rows) > 0 {
			writeScenario(&b, s, rows)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Run) writeHead(b *strings.Builder) {
	fmt.Fprintf(b, "Measured %s with `%s`: medians over %d repetition(s) of %v after %v of warm-up.\n\n",
		r.Date.UTC().Format("2006-01-02 15:04 MST"), r.Command, r.Reps, r.Duration, r.Warmup)
	for _, f := range r.Facts {
		fmt.Fprintf(b, "- %s: %s\n", f.Name, f.Value)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(b, "- **Note:** %s\n", note)
	}
}

func writeScenario(b *strings.Builder, s scenario.Scenario, rows []Row) {
	fmt.Fprintf(b, "\n### %s\n\n%s", s.Name, s.About)
	if s.Latency == "" {
		fmt.Fprint(b, " Memory is compared with what the proxy held before the streams.\n\n")
		writeTable(b, idleColumns(s.Reference()), rows)
	} else {
		fmt.Fprintf(b, " An operation is a %s; latency is that of %s.\n\n", s.Op, s.Latency)
		writeTable(b, busyColumns(s.Reference()), rows)
	}
	writeRemarks(b, rows)
}

func writeTable(b *strings.Builder, columns []column, rows []Row) { writeCells(b, 1, columns, rows) }

// writeCells writes a table of anything, whose first few columns are text.
func writeCells[T any](b *strings.Builder, text int, columns []columnOf[T], rows []T) {
	heads := make([]string, len(columns))
	rules := make([]string, len(columns))
	for i, c := range columns {
		heads[i], rules[i] = c.head, "---:"
		if i < text {
			rules[i] = "---"
		}
	}
	fmt.Fprintf(b, "| %s |\n| %s |\n", strings.Join(heads, " | "), strings.Join(rules, " | "))
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = c.cell(row)
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
}

// writeRemarks says how far the figures can be trusted.
func writeRemarks(b *strings.Builder, rows []Row) {
	var spread []string
	for _, row := range rows {
		if row.Reps > 1 && row.CPU > 0 {
			spread = append(spread, fmt.Sprintf("%s %s-%s", row.Target, figure(row.CPULow), figure(row.CPUHigh)))
		}
	}
	if len(spread) > 0 {
		fmt.Fprintf(b, "\nSpread of CPU us/op: %s.\n", strings.Join(spread, ", "))
	}
	writeDisturbed(b, rows)
	for _, row := range rows {
		writeMessages(b, row)
	}
}

func writeDisturbed(b *strings.Builder, rows []Row) {
	var disturbed []string
	for _, row := range rows {
		if row.OtherCPU > disturbedShare {
			disturbed = append(disturbed, fmt.Sprintf("%s %.0f%%", row.Target, 100*row.OtherCPU))
		}
	}
	if len(disturbed) > 0 {
		fmt.Fprintf(b, "\n**Disturbed:** something else used the machine's processors meanwhile: %s.\n", strings.Join(disturbed, ", "))
	}
}

func writeMessages(b *strings.Builder, row Row) {
	const most = 3
	messages := slices.Compact(slices.Sorted(slices.Values(row.Messages)))
	for _, m := range messages[:min(most, len(messages))] {
		fmt.Fprintf(b, "\n%s (!):\n\n    %s\n", row.Target, strings.ReplaceAll(m, "\n", "\n    "))
	}
}

// figure writes a number with as many digits as the measuring is worth, and "-" for none.
func figure(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// Fact is a line of the report's head.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
