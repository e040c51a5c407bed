// Package cli is the command line: it turns arguments into a configuration,
// runs what they ask for, and reports errors in one place.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kitexproxy/kitexproxy/proxy"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it could not start, or something went wrong
	exitUsage  = 2 // the arguments make no sense
)

// Main runs the command that args, without the program's name, ask for until
// it is done or ctx ends, and returns the exit code. It writes results to
// stdout, and logs and errors to stderr. Kitex and grpc-go log there too while Main
// runs. Filters, services, interceptors and the like come in by opts.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer, opts ...proxy.Option) int {
	routeLogs(slog.New(slog.DiscardHandler)) // until the log settings are known
	defer routeLogs(slog.New(slog.DiscardHandler))
	root := newRoot(&app{stdout: stdout, stderr: stderr, opts: opts})
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.ExecuteContext(ctx))
}

// app is what the commands share.
type app struct {
	stdout, stderr io.Writer
	opts           []proxy.Option
}

func newRoot(a *app) *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:   "kitexproxy",
		Short: "A transparent gRPC proxy on Kitex",
		Long: `kitexproxy takes gRPC calls, of any service, and carries them to backends
without changing them, but for what filters in Go and rules of its configuration
are to change.

Without a command it runs with a demo backend, for trying it out.`,
		Example: `  # the proxy with a demo backend behind it, and calls to try
  kitexproxy

  # before a backend of your own
  kitexproxy serve --listen 127.0.0.1:8888 --backend 127.0.0.1:9000

  # calls through it, with filters and with rules, too
  kitexproxy demo`,
		Args:              noCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.try(cmd.Context(), &f) },
		SilenceErrors:     true, // report does it
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err.Error()) })
	f.addListen(root)
	f.addHTTP(root)
	f.addDemoBackend(root)
	f.addLog(root, "")
	f.addShutdown(root)
	root.AddCommand(newServe(a), newCheck(a), newDiff(a), newRoutes(a), newDemo(a), newVersion(a))
	return root
}

// usageError is a mistake in the arguments.
type usageError struct{ sentence string }

func (e *usageError) Error() string { return e.sentence }

func usage(cmd *cobra.Command, problem string) error {
	return &usageError{sentence: fmt.Sprintf("%s; see '%s --help'", problem, cmd.CommandPath())}
}

// noCommand refuses what is not a command.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	problem := fmt.Sprintf("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		problem += fmt.Sprintf(", did you mean %q?", near[0])
	}
	return usage(cmd, problem)
}

// noArguments refuses arguments that are not flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage(cmd, fmt.Sprintf("%s takes flags only, not %q", cmd.Name(), args[0]))
}

// errReported is a failure that the command itself has reported.
var errReported = errors.New("reported")

// report writes what went wrong, each problem on a line, and returns the exit
// code.
func report(stderr io.Writer, err error) int {
	var wrong *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	}
	for problem := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "kitexproxy: %s\n", problem)
	}
	if errors.As(err, &wrong) {
		return exitUsage
	}
	return exitFailed
}
