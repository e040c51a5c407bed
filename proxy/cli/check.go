package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kitexproxy/kitexproxy/proxy"
)

func newCheck(a *app) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file",
		Long: `check reads a configuration file as serve does and reports every problem in it,
one on a line as file:line:column: those of schemas, rules and filters, too. It
exits with 0 if there is none, otherwise with 1. Routes that no call comes by, because
one before takes all of theirs, and files in which clusters would find no instances are
told as warnings.`,
		Example: `  kitexproxy check -c conf/proxy.yaml`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.config == "" {
				return usage(cmd, "check needs a file: give it with -c FILE")
			}
			return a.check(cmd.Context(), f.config)
		},
	}
	f.addConfig(cmd, "configuration `file` to check")
	return cmd
}

func (a *app) check(ctx context.Context, path string) error {
	cfg, err := a.load(ctx, path)
	if err != nil {
		// Without the program's name before it: editors know this form.
		fmt.Fprintln(a.stderr, err)
		return errReported
	}
	if err := proxy.Check(cfg, a.opts...); err != nil {
		for problem := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(problem, path+":") { // not of the file alone
				problem = path + ": " + problem
			}
			fmt.Fprintln(a.stderr, problem)
		}
		return errReported
	}
	for _, warning := range proxy.Warnings(cfg) {
		fmt.Fprintf(a.stderr, "%s: warning: %s\n", path, warning)
	}
	_, err = fmt.Fprintf(a.stdout, "%s: ok: %s, %s, %s\n", path,
		count(len(cfg.Listeners), "listener"), count(len(cfg.Clusters), "cluster"), count(len(cfg.Routes), "route"))
	return err
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
