package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A receiver of spans, or an access log, that takes nothing does not keep a proxy from
// ending in time.
func TestFlushEndsInTime(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct{ end, want time.Time }{
		"no end":                  {time.Time{}, now.Add(flushTimeout)},
		"a long grace time":       {now.Add(time.Minute), now.Add(flushTimeout)},
		"a short one":             {now.Add(time.Second), now.Add(time.Second)},
		"next to nothing left":    {now.Add(time.Millisecond), now.Add(flushTime)},
		"over, by the last calls": {now.Add(-time.Second), now.Add(flushTime)},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, flushEnd(now, test.end)) })
	}
}
