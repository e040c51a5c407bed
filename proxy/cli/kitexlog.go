package cli

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/netpoll"

	"github.com/kitexproxy/kitexproxy/conf"
)

// newLogger returns the logger that the settings, which are valid, ask for. level is
// its level, and can be changed later.
func newLogger(w io.Writer, settings conf.Log, level *slog.LevelVar) *slog.Logger {
	_ = level.UnmarshalText([]byte(settings.Level)) // Info if it were not valid
	options := slog.HandlerOptions{Level: level}
	if settings.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, &options))
	}
	return slog.New(slog.NewTextHandler(w, &options))
}

// Kitex has one logger in a process, and setting it is not safe once Kitex
// runs. So it is set once, to an adapter whose slog.Logger can be changed at
// any time.
var (
	kitexLogs   kitexLog
	setKitexLog = sync.OnceFunc(func() {
		klog.SetLogger(&kitexLogs)
		// All else in it is netpoll's default.
		_ = netpoll.Configure(netpoll.Config{LoggerOutput: netpollLog{&kitexLogs}})
	})
)

// net/http's clients have no logger but that of package log, for what a backend sends
// unasked, as much as it likes.
var (
	unaskedLogs   = unaskedLog{new(kitexLog), log.Writer()}
	setUnaskedLog = sync.OnceFunc(func() { log.SetOutput(unaskedLogs) })
)

// routeLogs makes Kitex, netpoll below it, grpc-go and net/http log to logger.
func routeLogs(logger *slog.Logger) {
	unaskedLogs.to.Store(logger)
	setUnaskedLog()
	kitexLogs.to.Store(logger)
	setKitexLog()
	grpcLogs.to.Store(logger)
	setGRPCLog()
}

// kitexLog is Kitex's klog.FullLogger on top of slog. Levels are lowered:
// Kitex calls the ordinary end of a connection an error, and its everyday
// business worth a notice.
//
// What it writes is limited: Kitex logs an error for each PRIORITY frame and
// each ping too many, so that any client could fill the disk.
type kitexLog struct {
	to    atomic.Pointer[slog.Logger]
	limit lineLimit
}

var _ klog.FullLogger = (*kitexLog)(nil)

// everyday are formats of Kitex's errors that come with every connection to a
// backend when it ends, whatever the reason, and with every call of the demo
// backend that fails on purpose.
var everyday = []string{"KITEX: grpc client loopyWriter.run returning", "KITEX: processing gRPC request error"}

// errorLevel returns what an error of Kitex's is worth.
func errorLevel(format string) slog.Level {
	for _, known := range everyday {
		if strings.HasPrefix(format, known) {
			return slog.LevelDebug
		}
	}
	return slog.LevelWarn
}

// print and printf format only what is going to be written.

func (k *kitexLog) print(level slog.Level, v ...any) {
	k.write(context.Background(), level, func() string { return fmt.Sprint(v...) })
}

func (k *kitexLog) printf(ctx context.Context, level slog.Level, format string, v ...any) {
	k.write(ctx, level, func() string { return fmt.Sprintf(format, v...) })
}

func (k *kitexLog) write(ctx context.Context, level slog.Level, text func() string) {
	to := k.to.Load()
	if !to.Enabled(ctx, level) {
		return
	}
	ok, suppressed := k.limit.allow(time.Now())
	if suppressed > 0 {
		to.Log(ctx, level, "lines of the log of a library were left out", "lines", suppressed)
	}
	if ok {
		to.Log(ctx, level, text())
	}
}

// exit ends the process, as Kitex expects of its fatal errors. Tests replace it.
var exit = os.Exit

// The methods of klog.Logger.

func (k *kitexLog) Fatal(v ...any) {
	k.print(slog.LevelError, v...)
	exit(exitFailed)
}
func (k *kitexLog) Error(v ...any)  { k.print(slog.LevelWarn, v...) }
func (k *kitexLog) Warn(v ...any)   { k.print(slog.LevelDebug, v...) }
func (k *kitexLog) Notice(v ...any) { k.print(slog.LevelDebug, v...) }
func (k *kitexLog) Info(v ...any)   { k.print(slog.LevelDebug, v...) }
func (k *kitexLog) Debug(v ...any)  { k.print(slog.LevelDebug, v...) }
func (k *kitexLog) Trace(v ...any)  { k.print(slog.LevelDebug, v...) }

// The methods of klog.FormatLogger and of klog.CtxLogger.

func (k *kitexLog) Fatalf(format string, v ...any)  { k.CtxFatalf(context.Background(), format, v...) }
func (k *kitexLog) Errorf(format string, v ...any)  { k.CtxErrorf(context.Background(), format, v...) }
func (k *kitexLog) Warnf(format string, v ...any)   { k.CtxWarnf(context.Background(), format, v...) }
func (k *kitexLog) Noticef(format string, v ...any) { k.CtxNoticef(context.Background(), format, v...) }
func (k *kitexLog) Infof(format string, v ...any)   { k.CtxInfof(context.Background(), format, v...) }
func (k *kitexLog) Debugf(format string, v ...any)  { k.CtxDebugf(context.Background(), format, v...) }
func (k *kitexLog) Tracef(format string, v ...any)  { k.CtxTracef(context.Background(), format, v...) }
func (k *kitexLog) CtxFatalf(ctx context.Context, format string, v ...any) {
	k.printf(ctx, slog.LevelError, format, v...)
	exit(exitFailed)
}

func (k *kitexLog) CtxErrorf(ctx context.Context, format string, v ...any) {
	k.printf(ctx, errorLevel(format), format, v...)
}

func (k *kitexLog) CtxWarnf(ctx context.Context, format string, v ...any) {
	k.printf(ctx, slog.LevelDebug, format, v...)
}

func (k *kitexLog) CtxNoticef(ctx context.Context, format string, v ...any) {
	k.printf(ctx, slog.LevelDebug, format, v...)
}

func (k *kitexLog) CtxInfof(ctx context.Context, format string, v ...any) {
	k.printf(ctx, slog.LevelDebug, format, v...)
}

func (k *kitexLog) CtxDebugf(ctx context.Context, format string, v ...any) {
	k.printf(ctx, slog.LevelDebug, format, v...)
}

func (k *kitexLog) CtxTracef(ctx context.Context, format string, v ...any) {
	k.printf(ctx, slog.LevelDebug, format, v...)
}

// SetLevel does nothing: the level is slog's.
func (k *kitexLog) SetLevel(klog.Level) {}

// SetOutput does nothing: the output is slog's.
func (k *kitexLog) SetOutput(io.Writer) {}

// unaskedLog takes what is written with package log, one message with each Write, and
// limits what net/http says of backends. Everything else is the program's own.
type unaskedLog struct {
	*kitexLog
	others io.Writer
}

func (u unaskedLog) Write(p []byte) (int, error) {
	const begins = "Unsolicited response received"
	_, message, found := strings.Cut(string(p), begins) // date and time may come before it
	if !found {
		return u.others.Write(p)
	}
	u.print(slog.LevelDebug, begins+strings.TrimRight(message, "\n"))
	return len(p), nil
}

// netpollLog takes what netpoll writes with package log: only what goes wrong,
// one message with each Write.
type netpollLog struct{ *kitexLog }

func (n netpollLog) Write(p []byte) (int, error) {
	_, message, _ := strings.Cut(string(p), "NETPOLL: ") // date and time come before it
	n.print(slog.LevelWarn, "NETPOLL: "+strings.TrimSpace(message))
	return len(p), nil
}
