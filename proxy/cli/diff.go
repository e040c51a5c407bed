package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
)

func newDiff(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show what a reload would change",
		Long: `diff compares two configuration files, and shows each setting that a proxy that
runs with OLD would change if it were given NEW: by editing its file, or with SIGHUP.
Those that take another start are marked.

It exits with 0 whether they differ or not, and with 1 if one of them is not valid.`,
		Example: `  kitexproxy diff conf/proxy.yaml conf/proxy.new.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage(cmd, "diff takes two files, OLD and NEW")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.diff(cmd.Context(), args[0], args[1]) },
	}
}

func (a *app) diff(ctx context.Context, before, after string) error {
	old, err := a.load(ctx, before)
	if err != nil {
		return err
	}
	next, err := a.load(ctx, after)
	if err != nil {
		return err
	}
	if err := proxy.Check(next, a.opts...); err != nil { // what a reload would refuse
		return err
	}
	printChanges(a.stdout, conf.Diff(old, next), proxy.NeedsRestart(old, next))
	return nil
}

func printChanges(w io.Writer, changes []conf.Change, restart []string) {
	if len(changes) == 0 {
		_, _ = fmt.Fprintln(w, "no change")
		return
	}
	for _, c := range changes {
		line := c.String()
		for _, path := range restart {
			if c.Path == path || strings.HasPrefix(c.Path, path+".") {
				line += " (takes another start)"
			}
		}
		_, _ = fmt.Fprintln(w, line)
	}
}
