package demo

import (
	"context"
	"fmt"
	"path"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// The methods that the filters are for.
var (
	unaryMethod  = filter.For[echo.EchoRequest, echo.EchoReply](methodName(unary))
	expandMethod = filter.For[echo.EchoRequest, echo.EchoReply](methodName(expand))
	chatMethod   = filter.For[echo.EchoRequest, echo.EchoReply](methodName(chat))
)

// filters returns those of the part in mode: struct, one for each scene.
func filters() [3]*filter.Filter {
	return [...]*filter.Filter{
		unaryMethod.OnRequest(hidePasswords),
		expandMethod.OnResponse(dropEven),
		chatMethod.OnRequest(refuseSecrets),
	}
}

func hidePasswords(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
	if !strings.Contains(m.Message, "password") {
		return filter.Forward
	}
	m.Message = "***"
	return filter.Changed
}

func dropEven(_ context.Context, _ *filter.Call, m *echo.EchoReply) filter.Verdict {
	if m.Sequence%2 == 0 {
		return filter.Drop
	}
	return filter.Forward
}

func refuseSecrets(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
	if strings.Contains(m.Message, "secret") {
		return filter.Reject(codes.PermissionDenied, "no secrets")
	}
	return filter.Forward
}

// describe names a filter.
func describe(f *filter.Filter) string {
	return fmt.Sprintf("filter at %s: %s (proxy/demo/filters.go)\n", f.Point(), path.Base(f.String()))
}
