package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"google.golang.org/grpc/grpclog"
)

// grpc-go, and grpc-gateway with it, have one logger in a process, too, which must be set
// before anything of theirs runs.
var (
	grpcLogs   = grpcLog{new(kitexLog)}
	setGRPCLog = sync.OnceFunc(func() { grpclog.SetLoggerV2(grpcLogs) })
)

// grpcLog is grpc-go's logger on top of slog. Everything has debug level: what they call
// an error is mostly what a client has done, such as to leave a stream, or to send a body
// that is no JSON. It is limited as Kitex's is.
type grpcLog struct{ *kitexLog }

var _ grpclog.LoggerV2 = grpcLog{}

func (g grpcLog) line(v ...any) {
	g.print(slog.LevelDebug, strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
}

func (g grpcLog) format(format string, v ...any) {
	g.printf(context.Background(), slog.LevelDebug, format, v...)
}

// The methods of grpclog.LoggerV2. Fatal ones are kitexLog's.

func (g grpcLog) Info(v ...any)                    { g.line(v...) }
func (g grpcLog) Infoln(v ...any)                  { g.line(v...) }
func (g grpcLog) Infof(format string, v ...any)    { g.format(format, v...) }
func (g grpcLog) Warning(v ...any)                 { g.line(v...) }
func (g grpcLog) Warningln(v ...any)               { g.line(v...) }
func (g grpcLog) Warningf(format string, v ...any) { g.format(format, v...) }
func (g grpcLog) Error(v ...any)                   { g.line(v...) }
func (g grpcLog) Errorln(v ...any)                 { g.line(v...) }
func (g grpcLog) Errorf(format string, v ...any)   { g.format(format, v...) }
func (g grpcLog) Fatalln(v ...any)                 { g.Fatal(v...) }

// V reports whether lines of a verbosity are wanted: those of everyday only.
func (g grpcLog) V(verbosity int) bool { return verbosity == 0 }
