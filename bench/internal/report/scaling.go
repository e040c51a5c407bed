package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/stats"
)

// scalingRow is a target's figures over a number of connections, one for each number of processors.
type scalingRow struct {
	conns  int
	target string
	on     []Row
}

func isScaling(name string) bool {
	for _, s := range scenario.Scaling {
		if s.Name == name {
			return s.Procs > 0
		}
	}
	return false
}

// writeScaling puts the scenarios that differ in nothing but connections and processors into one table.
func (r Run) writeScaling(b *strings.Builder) {
	var rows []scalingRow
	for _, conns := range scenario.ScalingConns {
		rows = append(rows, r.scalingRows(conns)...)
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprint(b, "\n### Scaling\n\nUnary calls, 1 KiB request and 1 KiB reply, 64 callers or one for each connection if those are more, "+
		"with the proxy on one processor and on two.\n\n")
	writeCells(b, 2, scalingColumns(), rows)
	var single []Row
	for _, row := range rows {
		single = append(single, row.on...)
	}
	writeDisturbed(b, single)
	for _, row := range single {
		writeMessages(b, row)
	}
}

func (r Run) scalingRows(conns int) []scalingRow {
	var rows []scalingRow
	for _, target := range r.Targets {
		row, any := scalingRow{conns: conns, target: target}, false
		for _, procs := range scenario.ScalingProcs {
			on := r.row(scenario.ScalingName(conns, procs), target)
			on.Target = fmt.Sprintf("%s over %d on %d", target, conns, procs) // in messages
			row.on = append(row.on, on)
			any = any || on.Reps+on.Failures > 0
		}
		if any {
			rows = append(rows, row)
		}
	}
	return rows
}

func scalingColumns() []columnOf[scalingRow] {
	columns := []columnOf[scalingRow]{
		{"connections", func(r scalingRow) string { return strconv.Itoa(r.conns) }},
		{"target", func(r scalingRow) string {
			for _, on := range r.on {
				if on.Errors+on.Failures > 0 {
					return "**" + r.target + " (!)**"
				}
			}
			return r.target
		}},
	}
	for i, procs := range scenario.ScalingProcs {
		for _, f := range []struct {
			head string
			of   func(Row) float64
		}{
			{"calls/s", func(r Row) float64 { return r.OpsPerSec }},
			{"CPU us/call", func(r Row) float64 { return r.CPU }},
			{"p99 us", func(r Row) float64 { return r.P99 }},
			{"peak MiB", func(r Row) float64 { return r.PeakMiB }},
		} {
			columns = append(columns, columnOf[scalingRow]{
				fmt.Sprintf("%s on %d", f.head, procs),
				func(r scalingRow) string { return figure(f.of(r.on[i])) },
			})
		}
	}
	return append(columns, columnOf[scalingRow]{"calls/s, x of 1", func(r scalingRow) string {
		return figure(stats.Ratio(r.on[len(r.on)-1].OpsPerSec, r.on[0].OpsPerSec))
	}}, columnOf[scalingRow]{"errors", func(r scalingRow) string {
		var failed, errs int
		for _, on := range r.on {
			failed, errs = failed+on.Failures, errs+on.Errors
		}
		if failed > 0 {
			return fmt.Sprintf("%d, and %d run(s) failed", errs, failed)
		}
		return strconv.Itoa(errs)
	}})
}
