package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/cloudwego/kitex/server"

	"github.com/kitexproxy/kitexproxy/handler/kitexgrpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// RegisterService has a Kitex server proxy some methods of a service, which is a full
// name, "package.Service". The service's other methods are UNIMPLEMENTED, even if the
// server has a TransparentHandler; its own services are served as ever. Unlike for
// TransparentHandler, the server's middlewares are run.
//
// It is for before the server runs. The error names what is wrong with a name, or
// says that the server has such a service already. Kitex tells services apart by
// what follows the last dot of their names: a server has only one of those that
// differ in the package, and calls of the others are UNIMPLEMENTED.
func RegisterService(svr server.Server, d Director, service string, methods ...string) error {
	if err := checkService(service, methods); err != nil {
		return err
	}
	pkg, name := "", service
	if i := strings.LastIndexByte(service, '.'); i >= 0 {
		pkg, name = service[:i], service[i+1:]
	}
	if _, taken := svr.GetServiceInfos()[name]; taken {
		return fmt.Errorf("service %s: the server has a service %q already", service, name)
	}
	p := &proxiedService{methods: make(map[string]bool), directed: newDirected(d, nil, slog.Default())}
	for _, m := range methods {
		p.methods["/"+service+"/"+m] = true
	}
	return svr.RegisterService(p.info(pkg, name), p)
}

var (
	serviceName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	methodName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// checkService returns what is wrong with the names of a service and its methods.
func checkService(service string, methods []string) error {
	if !serviceName.MatchString(service) {
		return fmt.Errorf("%q is no service name, which is like package.Service", service)
	}
	if len(methods) == 0 {
		return fmt.Errorf("service %s: there are no methods to proxy", service)
	}
	seen := make(map[string]bool)
	var errs []error
	for _, m := range methods {
		switch {
		case !methodName.MatchString(m):
			errs = append(errs, fmt.Errorf("service %s: %q is no method name", service, m))
		case seen[m]:
			errs = append(errs, fmt.Errorf("service %s: method %s is there twice", service, m))
		}
		seen[m] = true
	}
	return errors.Join(errs...)
}

// proxiedService is a service of a Kitex server of which some methods are proxied.
type proxiedService struct {
	directed *directed
	methods  map[string]bool // by full name
}

// info describes the service to Kitex. It takes all methods, for Kitex would answer
// others with a code that is none for it, and lists none: Kitex refuses to run with
// two services that have a method of the same name.
func (p *proxiedService) info(pkg, name string) *serviceinfo.ServiceInfo {
	server := &kitexgrpc.Server{Serve: p.serve}
	method := serviceinfo.NewMethodInfo(
		func(ctx context.Context, _, args, _ any) error {
			return server.Unknown(ctx, "", args.(*streaming.Args).Stream)
		}, nil, nil, false, serviceinfo.WithStreamingMode(serviceinfo.StreamingBidirectional))
	return &serviceinfo.ServiceInfo{
		ServiceName:   name,
		Methods:       map[string]serviceinfo.MethodInfo{},
		GenericMethod: func(context.Context, string) serviceinfo.MethodInfo { return method },
		PayloadCodec:  serviceinfo.Protobuf,
		Extra:         map[string]any{serviceinfo.PackageName: pkg, "streaming": true},
	}
}

// serve carries a call if it is of one of the methods.
func (p *proxiedService) serve(in stream.Inbound) {
	method := in.Request().Method
	if p.methods[method] {
		p.directed.serve(in)
		return
	}
	f := stream.Failure{Reason: stream.NoRoute, Code: stream.Unimplemented, Message: "method " + method + " is not served here"}
	in.Finish(f.Trailer())
}
