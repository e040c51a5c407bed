package proxytest

import (
	"flag"
	"os"
	"testing"
)

// Main has more tests run side by side than there are processors, unless it is told how
// many: those that may, wait for most of their time. It does not return.
func Main(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "4")
	}
	os.Exit(m.Run())
}
