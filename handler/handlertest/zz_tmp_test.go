package handlertest

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	kgrpc "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	kmetadata "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/cloudwego/kitex/server"

	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

type tcpDialer struct{}

func (tcpDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout(network, address, timeout)
}

func naiveKitex(t *testing.T, backendAddr string) string {
	pool := nphttp2.NewConnPool("x", 1, kgrpc.ConnectOptions{})
	t.Cleanup(func() { _ = pool.Close() })
	h := func(ctx context.Context, _ string, st streaming.Stream) error {
		in, err := nphttp2.GetServerConn(st)
		if err != nil {
			return err
		}
		ri := rpcinfo.GetRPCInfo(ctx)
		inv := ri.Invocation()
		md, _ := kmetadata.FromIncomingContext(ctx)
		md = md.Copy()
		host := ""
		if a := md[":authority"]; len(a) > 0 {
			host = a[0]
		}
		delete(md, ":authority")
		delete(md, "content-type")
		delete(md, "user-agent")
		cfg := rpcinfo.NewRPCConfig()
		mc := rpcinfo.AsMutableRPCConfig(cfg)
		mc.SetInteractionMode(rpcinfo.Streaming)
		mc.SetPayloadCodec(serviceinfo.Protobuf)
		ninv := rpcinfo.NewInvocation(inv.ServiceName(), inv.MethodName(), inv.PackageName())
		to := rpcinfo.NewEndpointInfo(host, inv.MethodName(), nil, nil)
		nri := rpcinfo.NewRPCInfo(nil, to, ninv, cfg, rpcinfo.NewRPCStats())
		octx, cancel := context.WithCancel(kmetadata.NewOutgoingContext(rpcinfo.NewCtxWithRPCInfo(ctx, nri), md))
		defer cancel()
		conn, err := pool.Get(octx, "tcp", backendAddr, remote.ConnOption{Dialer: tcpDialer{}, ConnectTimeout: time.Second})
		if err != nil {
			return err
		}
		out := conn.(nphttp2.GRPCConn)
		go func() {
			for {
				hdr, data, err := in.ReadFrame()
				if err != nil {
					if errors.Is(err, io.EOF) {
						_ = conn.Close()
					} else {
						cancel()
					}
					return
				}
				if _, err := out.WriteFrame(hdr, data); err != nil {
					return
				}
			}
		}()
		hh := conn.(interface {
			Header() (kmetadata.MD, error)
			Trailer() kmetadata.MD
		})
		hd, err := hh.Header()
		if err == nil && hd != nil {
			hd = hd.Copy()
			delete(hd, "content-type")
			_ = st.SendHeader(hd)
		}
		for {
			hdr, data, err := out.ReadFrame()
			if err != nil {
				tr := hh.Trailer().Copy()
				delete(tr, "content-type")
				delete(tr, "grpc-status-details-bin")
				st.SetTrailer(tr)
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if _, err := in.WriteFrame(hdr, data); err != nil {
				return err
			}
		}
	}
	lis, _ := net.Listen("tcp", "127.0.0.1:0")
	exit := make(chan error, 1)
	svr := echosvc.NewServer(&kitexEcho{}, server.WithListener(lis), server.WithExitWaitTime(time.Millisecond), server.WithExitSignal(func() <-chan error { return exit }), server.WithGRPCUnknownServiceHandler(h))
	ran := make(chan error, 1)
	go func() { ran <- svr.Run() }()
	t.Cleanup(func() { exit <- nil; <-ran })
	return lis.Addr().String()
}

func TestNaiveKitex(t *testing.T) {
	s := newSuite(t, naiveKitex, Options{})
	s.safety = 3 * time.Second
	s.all(t)
}
