package cli

import (
	"cmp"
	"fmt"
	"strings"
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
cluster, where the types of its messages come from, and its filters, each on a
line with the point of the call where it is asked. The last method, "*", is all
others. Without a file it is the built-in configuration.`,
		Example: `  # with a file
  kitexproxy routes -c conf/proxy.yaml

  # what "kitexproxy" without arguments does
  kitexproxy routes`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd.Context(), f.config)
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
	fmt.Fprintln(w, "METHOD\tROUTE\tMODE\tCLUSTER\tTYPES\tFILTERS")
	for _, p := range plans {
		if p.Route == "" {
			fmt.Fprintf(w, "%s\t-\t-\t-\t%s\tnone: answered with UNIMPLEMENTED\n", p.Method, cmp.Or(p.Schema, "-"))
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Method, routeOf(&p), p.Mode, p.Cluster,
			cmp.Or(p.Schema, "-"), cmp.Or(strings.Join(p.Filters, "\n\t\t\t\t\t"), "-"))
	}
	return w.Flush()
}

// routeOf names a plan's route, and says when calls take it.
func routeOf(p *proxy.MethodPlan) string {
	if p.When == "" {
		return p.Route
	}
	return p.Route + " if " + p.When
}
