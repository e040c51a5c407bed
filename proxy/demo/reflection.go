package demo

import (
	"context"
	"errors"

	"github.com/bufbuild/protocompile"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/cloudwego/kitex/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/kitexproxy/kitexproxy/idl"
)

// registerReflection has a Kitex server tell the types of the Echo service by gRPC
// server reflection, so that the gateway, and grpcurl, need no .proto file. Kitex has
// none of its own; grpc-go's is behind a service that is written by hand here.
func registerReflection(svr server.Server) error {
	const name = "echo.proto"
	compiler := protocompile.Compiler{
		Resolver: &protocompile.SourceResolver{
			Accessor: protocompile.SourceAccessorFromMap(map[string]string{name: string(idl.Echo)}),
		},
		SourceInfoMode: protocompile.SourceInfoStandard, // the comments, too
	}
	files, err := compiler.Compile(context.Background(), name)
	if err != nil {
		return err
	}
	return svr.RegisterService(reflectionInfo(), reflection.NewServerV1(reflection.ServerOptions{
		Services: echoService{}, DescriptorResolver: files.AsResolver(),
	}))
}

// echoService is the list of services that clients are told.
type echoService struct{}

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (echoService) GetServiceInfo() map[string]grpc.ServiceInfo {
	return map[string]grpc.ServiceInfo{echoServiceName: {}}
}

// reflectionInfo is what Kitex generates of a service.
func reflectionInfo() *serviceinfo.ServiceInfo {
	none := func() any { return nil }
	return &serviceinfo.ServiceInfo{
		ServiceName: "ServerReflection",
		HandlerType: (*reflectionpb.ServerReflectionServer)(nil),
		Methods: map[string]serviceinfo.MethodInfo{
			"ServerReflectionInfo": serviceinfo.NewMethodInfo(reflect, none, none, false,
				serviceinfo.WithStreamingMode(serviceinfo.StreamingBidirectional)),
		},
		PayloadCodec: serviceinfo.Protobuf,
		Extra:        map[string]any{"PackageName": "grpc.reflection.v1", "streaming": true},
	}
}

// reflect serves a call.
func reflect(_ context.Context, handler, arg, _ any) error {
	args, ok := arg.(*streaming.Args)
	if !ok {
		return errors.New("demo backend: reflection is a stream")
	}
	return handler.(reflectionpb.ServerReflectionServer).ServerReflectionInfo(&reflectionStream{stream: args.Stream})
}

// reflectionStream is a stream of Kitex's as one of grpc-go's, of which reflection uses
// no more than this.
type reflectionStream struct {
	grpc.ServerStream // nil
	stream            streaming.Stream
}

// Context implements grpc.ServerStream.
func (s *reflectionStream) Context() context.Context { return s.stream.Context() }

// Recv returns the next request.
func (s *reflectionStream) Recv() (*reflectionpb.ServerReflectionRequest, error) {
	req := new(reflectionpb.ServerReflectionRequest)
	return req, s.stream.RecvMsg(req)
}

// Send sends a response.
func (s *reflectionStream) Send(resp *reflectionpb.ServerReflectionResponse) error {
	return s.stream.SendMsg(resp)
}
