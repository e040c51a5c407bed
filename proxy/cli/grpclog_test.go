package cli

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc/grpclog"

	"github.com/kitexproxy/kitexproxy/conf"
)

// What clients can have grpc-gateway say is for whoever looks for it.
func TestGRPCLogsAtDebugLevel(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	routeLogs(newLogger(&out, conf.Log{Level: "info"}, &level))
	defer routeLogs(slog.New(slog.DiscardHandler))
	grpclog.Errorf("Failed to write response: %v", "gone")
	assert.Empty(t, out.String())

	level.Set(slog.LevelDebug)
	grpclog.Errorf("Failed to write response: %v", "gone")
	grpclog.Infoln("two", "words")
	assert.Contains(t, out.String(), `level=DEBUG msg="Failed to write response: gone"`)
	assert.Contains(t, out.String(), `level=DEBUG msg="two words"`)
	assert.NotContains(t, out.String(), "level=ERROR")
}
