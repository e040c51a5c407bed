package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/cloudwego/kitex"
	"github.com/spf13/cobra"
)

// version is set by build.sh, with -ldflags -X.
var version string

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of kitexproxy, Go and Kitex",
		Example: `  kitexproxy version`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.stdout, "kitexproxy %s\ngo         %s %s/%s\nkitex      %s\n",
				ownVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, kitex.Version)
			return err
		},
	}
}

// ownVersion returns what build.sh says, or what Go knows about the module.
func ownVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
