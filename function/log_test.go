package function

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestErrorsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		log := newLimited(slog.New(slog.NewTextHandler(&b, nil)))
		for range 2 * errorsAtOnce {
			log.Error("no endpoints")
		}
		require.Equal(t, errorsAtOnce, strings.Count(b.String(), "no endpoints"))
		b.Reset()
		time.Sleep(time.Second) // the bubble's clock
		for range 2 * errorsPerSecond {
			log.Error("no endpoints")
		}
		require.Equal(t, errorsPerSecond, strings.Count(b.String(), "no endpoints"))
		require.Equal(t, 1, strings.Count(b.String(), "left out"))
		require.Contains(t, b.String(), `msg="errors of functions have been left out" lines=100`)
	})
}
