package grpcstats

import (
	"context"
	"net"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	callmeta "github.com/kitexproxy/kitexproxy/handler/metadata"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// incoming returns the context that a server of grpc-go has for a call that begins, and
// the metadata in it, with what grpc-go adds of the protocol's own headers.
func incoming(c *intercept.Call) (context.Context, metadata.MD) {
	ctx := c.Context()
	if md, ok := metadata.FromIncomingContext(ctx); ok { // there is another handler
		return ctx, md
	}
	p := &peer.Peer{Addr: c.Peer(), LocalAddr: localOf(c)}
	if state := c.TLS(); state != nil {
		p.AuthInfo = credentials.TLSInfo{
			State:          *state,
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	md := requestMD(c.Request())
	return metadata.NewIncomingContext(peer.NewContext(ctx, p), md), md
}

func requestMD(req *stream.Request) metadata.MD {
	md := toMD(req.Metadata)
	md.Set(":authority", req.Authority)
	md.Set("content-type", req.ContentType)
	if req.AcceptEncoding != "" {
		md.Set("grpc-accept-encoding", req.AcceptEncoding)
	}
	return md
}

// localOf returns the proxy's address on the client's connection, nil if that is not
// known.
func localOf(c *intercept.Call) net.Addr {
	if conn := c.Conn(); conn != nil {
		return conn.Local
	}
	return nil
}

// toMD returns metadata as grpc-go has it, with values of binary keys as bytes.
func toMD(fields stream.Metadata) metadata.MD {
	md := make(metadata.MD, len(fields)+3)
	for key, value := range callmeta.ReadOnly(fields).All() {
		md[key] = append(md[key], value)
	}
	return md
}

// errorOf returns a status as google.golang.org/grpc/status knows it, nil for OK.
func errorOf(s stream.Status) error {
	if s.Code == stream.OK {
		return nil
	}
	st := &spb.Status{}
	if proto.Unmarshal(s.Details, st) != nil {
		st = &spb.Status{} // code and message do without
	}
	st.Code, st.Message = int32(s.Code), s.Message
	return status.ErrorProto(st)
}
