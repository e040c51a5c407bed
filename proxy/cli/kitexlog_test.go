package cli

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/kitexproxy/kitexproxy/conf"
)

// logged returns what f logs at a level, without the time.
func logged(level string, f func(*kitexLog)) string {
	var b bytes.Buffer
	var k kitexLog
	k.to.Store(newLogger(&b, conf.Log{Level: level, Format: "text"}, new(slog.LevelVar)))
	f(&k)
	_, line, _ := bytes.Cut(b.Bytes(), []byte(" "))
	return string(line)
}

func TestKitexLevelsAreLowered(t *testing.T) {
	ctx := context.Background()
	for name, test := range map[string]struct {
		log  func(*kitexLog)
		want string
	}{
		"Error":     {func(k *kitexLog) { k.Error("a", 1) }, "level=WARN msg=a1\n"},
		"Errorf":    {func(k *kitexLog) { k.Errorf("a %d", 1) }, "level=WARN msg=\"a 1\"\n"},
		"CtxErrorf": {func(k *kitexLog) { k.CtxErrorf(ctx, "a %d", 1) }, "level=WARN msg=\"a 1\"\n"},
		"Warn":      {func(k *kitexLog) { k.Warn("a") }, "level=DEBUG msg=a\n"},
		"Notice":    {func(k *kitexLog) { k.Notice("a") }, "level=DEBUG msg=a\n"},
		"Info":      {func(k *kitexLog) { k.Info("a") }, "level=DEBUG msg=a\n"},
		"Debug":     {func(k *kitexLog) { k.Debug("a") }, "level=DEBUG msg=a\n"},
		"Trace":     {func(k *kitexLog) { k.Trace("a") }, "level=DEBUG msg=a\n"},
		"Warnf":     {func(k *kitexLog) { k.Warnf("%s", "a") }, "level=DEBUG msg=a\n"},
		"Noticef":   {func(k *kitexLog) { k.Noticef("%s", "a") }, "level=DEBUG msg=a\n"},
		"Infof":     {func(k *kitexLog) { k.Infof("%s", "a") }, "level=DEBUG msg=a\n"},
		"Debugf":    {func(k *kitexLog) { k.Debugf("%s", "a") }, "level=DEBUG msg=a\n"},
		"Tracef":    {func(k *kitexLog) { k.Tracef("%s", "a") }, "level=DEBUG msg=a\n"},
		"TheEndOfAConnection": {
			func(k *kitexLog) { k.CtxErrorf(ctx, "KITEX: grpc client loopyWriter.run returning, error=%v", "x") },
			"level=DEBUG msg=\"KITEX: grpc client loopyWriter.run returning, error=x\"\n",
		},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, logged("debug", test.log)) })
	}
}

// unformatted fails the test when it is formatted.
type unformatted struct{ t *testing.T }

func (u unformatted) String() string {
	assert.Fail(u.t, "formatted though it is not logged")
	return ""
}

func TestKitexMessagesBelowTheLevelAreNotFormatted(t *testing.T) {
	assert.Empty(t, logged("info", func(k *kitexLog) {
		k.Warn(unformatted{t})
		k.Infof("%v", unformatted{t})
		k.CtxTracef(context.Background(), "%v", unformatted{t})
	}))
	assert.Empty(t, logged("error", func(k *kitexLog) { k.Errorf("%v", unformatted{t}) }))
}

func TestKitexFatalEndsTheProcess(t *testing.T) {
	original := exit
	t.Cleanup(func() { exit = original })
	var codes []int
	exit = func(code int) { codes = append(codes, code) }
	for _, fatal := range []func(*kitexLog){
		func(k *kitexLog) { k.Fatal("a") },
		func(k *kitexLog) { k.Fatalf("%s", "a") },
		func(k *kitexLog) { k.CtxFatalf(context.Background(), "%s", "a") },
	} {
		assert.Equal(t, "level=ERROR msg=a\n", logged("error", fatal))
	}
	assert.Equal(t, []int{1, 1, 1}, codes)
}

func TestNetpollLogsWithoutItsOwnTime(t *testing.T) {
	assert.Equal(t, "level=WARN msg=\"NETPOLL: accept conn failed: too many\"\n", logged("info", func(k *kitexLog) {
		_, err := netpollLog{k}.Write([]byte("2026/01/02 03:04:05 NETPOLL: accept conn failed: too many\n"))
		assert.NoError(t, err)
	}))
}

// A backend can make net/http say this at any time; what the program says is its own.
func TestUnaskedResponsesAreLoggedAsTheRestIs(t *testing.T) {
	var others bytes.Buffer
	write := func(line string) string {
		return logged("debug", func(k *kitexLog) {
			_, err := unaskedLog{k, &others}.Write([]byte(line))
			assert.NoError(t, err)
		})
	}
	assert.Equal(t, "level=DEBUG msg=\"Unsolicited response received on idle HTTP channel\"\n",
		write("2026/01/02 03:04:05 Unsolicited response received on idle HTTP channel\n"))
	assert.Empty(t, write("a filter's\n"))
	assert.Equal(t, "a filter's\n", others.String())
}

func TestLoggerHasTheLevelsOfTheConfiguration(t *testing.T) {
	for level, want := range map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	} {
		logger := newLogger(&bytes.Buffer{}, conf.Log{Level: level, Format: "json"}, new(slog.LevelVar))
		assert.True(t, logger.Enabled(context.Background(), want))
		assert.False(t, logger.Enabled(context.Background(), want-1))
	}
}
