package cli

import (
	"cmp"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
)

func newRoutes(a *app) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "routes",
		Short: "Show what happens to the calls of each method",
		Long: `routes reads a configuration as serve does and prints a line for each method that
it or the program knows of: the route that takes its calls, their mode and
cluster, where the types of its messages come from, the interceptors around them,
those of one listener alone behind its address, and its filters, each on a line with
the point of the call where it is asked. The last method, "*", is all others. Without a file it is the built-in configuration.`,
		Example: `  # with a file
  kitexproxy routes -c conf/proxy.yaml

  # what "kitexproxy" without arguments does
  kitexproxy routes`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd.Context(), f.config)
			if err != nil {
				return err
			}
			return a.routes(cfg)
		},
	}
	f.addConfig(cmd, "configuration `file`")
	return cmd
}

func (a *app) routes(cfg *conf.Config) error {
	plans, err := proxy.Plan(cfg, a.opts...)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "METHOD\tROUTE\tMODE\tCLUSTER\tTYPES\tINTERCEPTORS\tFILTERS")
	for _, p := range plans {
		what := fmt.Sprintf("%s\t%s\t%s\t%s\t%s", p.Method, routeOf(&p), p.Mode, p.Cluster, cmp.Or(p.Schema, "-"))
		filters := p.Filters
		if p.Route == "" {
			what = fmt.Sprintf("%s\t-\t-\t-\t%s", p.Method, cmp.Or(p.Schema, "-"))
			filters = []string{"none: answered with UNIMPLEMENTED"}
		}
		for i := range max(1, len(p.Interceptors), len(filters)) {
			fmt.Fprintf(w, "%s\t%s\t%s\n", what, item(p.Interceptors, i), item(filters, i))
			what = "\t\t\t\t"
		}
	}
	return w.Flush()
}

// item returns the ith of a list as a table shows it: "-" stands for an empty list.
func item(list []string, i int) string {
	switch {
	case i < len(list):
		return list[i]
	case i == 0:
		return "-"
	default:
		return ""
	}
}

// routeOf names a plan's route, and says when calls take it.
func routeOf(p *proxy.MethodPlan) string {
	if p.When == "" {
		return p.Route
	}
	return p.Route + " if " + p.When
}
