package handlertest

import (
	"testing"

	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip"
	"github.com/stretchr/testify/assert"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	QuietKitex()
	goleak.VerifyTestMain(m, LeakOptions()...)
}

func TestDirect(t *testing.T) { Suite(t, Direct, Options{}) }

func TestDirectKitex(t *testing.T) { SuiteKitex(t, Direct, Options{}) }

func TestDirectInterop(t *testing.T) { NewInterop(t).Suite(t, Direct, Options{}) }

func TestSkip(t *testing.T) {
	s := newSuite(t, Direct, Options{Skip: map[string]string{
		"Group/Skipped": "because", "Group/Renamed": "no longer there",
	}})
	var ran []string
	s.run(t, "Group", func(t *testing.T) {
		s.run(t, "Skipped", func(*testing.T) { ran = append(ran, "Skipped") })
		s.run(t, "Other", func(*testing.T) { ran = append(ran, "Other") })
	})
	assert.Equal(t, []string{"Other"}, ran)
	assert.Equal(t, []string{"Group/Renamed"}, s.staleSkips())
}
