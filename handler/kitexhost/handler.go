package kitexhost

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/serviceinfo"

	"github.com/kitexproxy/kitexproxy/handler/h2"
)

// Factory is what server.WithTransHandlerFactory takes, together with a
// TransServer.
type Factory struct {
	// Config is how client connections behave. Its Begin gets the calls of
	// services that the server does not know; if it is nil, they go to the
	// server's handler of unknown services (remote.ServerOption's
	// GRPCUnknownServiceHandler) as Kitex's streams.
	Config h2.Config
	// Connection is told of each connection that begins, and returns what takes its
	// calls, in place of Config's Begin, and what is called when it is over. nil for
	// Config's.
	Connection func(nc net.Conn) (begin h2.Begin, over func())
	// Broken is told of each client that was cut off for what it has sent. It
	// may be nil.
	Broken func(peer net.Addr, why *h2.ConnError)
}

// NewTransHandler implements remote.ServerTransHandlerFactory.
func (f *Factory) NewTransHandler(opt *remote.ServerOption) (remote.ServerTransHandler, error) {
	stock, err := nphttp2.NewSvrTransHandlerFactory().NewTransHandler(opt)
	if err != nil {
		return nil, err
	}
	return &transHandler{Factory: f, services: opt.SvcSearcher, stock: stock, conns: make(map[*h2.Conn]struct{})}, nil
}

// transHandler serves the connections of one server.
type transHandler struct {
	*Factory
	services remote.ServiceSearcher
	stock    remote.ServerTransHandler // Kitex's own, for the server's services

	mu       sync.Mutex
	conns    map[*h2.Conn]struct{}
	draining bool
}

var (
	_ remote.ServerTransHandler     = (*transHandler)(nil)
	_ remote.GracefulShutdown       = (*transHandler)(nil)
	_ remote.InvokeHandleFuncSetter = (*transHandler)(nil)
)

// OnActive implements remote.ServerTransHandler.
func (t *transHandler) OnActive(ctx context.Context, _ net.Conn) (context.Context, error) {
	return ctx, nil
}

// OnRead serves a connection, and returns when it is over.
func (t *transHandler) OnRead(_ context.Context, nc net.Conn) error {
	local := &local{stock: t.stock, client: nc}
	defer local.close()
	cfg, begin := t.Config, t.Config.Begin
	if t.Connection != nil {
		var over func()
		begin, over = t.Connection(nc)
		defer over()
	}
	cfg.Begin = func(s *h2.Stream, fields []hpack.HeaderField, last bool) {
		if begin == nil || t.serves(pathOf(fields)) {
			local.begin(s, fields, last)
			return
		}
		begin(s, fields, last)
	}
	c := h2.NewServer(nc, &cfg)
	t.enter(c)
	defer t.leave(c)
	err := c.Serve()
	var broken *h2.ConnError
	if t.Broken != nil && errors.As(err, &broken) {
		t.Broken(nc.RemoteAddr(), broken)
	}
	return err
}

func (t *transHandler) enter(c *h2.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = struct{}{}
	if t.draining {
		c.Drain()
	}
}

func (t *transHandler) leave(c *h2.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

func pathOf(fields []hpack.HeaderField) string {
	for i := range fields {
		if fields[i].Name == ":path" {
			return fields[i].Value
		}
	}
	return ""
}

// serves reports whether a service registered with the server has the method.
// Kitex knows services by what follows the last dot of their names.
func (t *transHandler) serves(path string) bool {
	if t.services == nil {
		return false
	}
	path = strings.TrimPrefix(path, "/")
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return false
	}
	service := path[strings.LastIndexByte(path[:slash], '.')+1 : slash]
	return t.services.SearchService(service, path[slash+1:], true, serviceinfo.Protobuf) != nil
}

// GracefulShutdown tells all clients to go, and returns when they have, or ctx
// ends.
func (t *transHandler) GracefulShutdown(ctx context.Context) error {
	t.mu.Lock()
	t.draining = true
	conns := make([]*h2.Conn, 0, len(t.conns))
	for c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.Drain()
	}
	for _, c := range conns {
		select {
		case <-c.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// SetInvokeHandleFunc implements remote.InvokeHandleFuncSetter.
func (t *transHandler) SetInvokeHandleFunc(f endpoint.Endpoint) {
	if s, ok := t.stock.(remote.InvokeHandleFuncSetter); ok {
		s.SetInvokeHandleFunc(f)
	}
}

// SetPipeline implements remote.TransHandler.
func (t *transHandler) SetPipeline(p *remote.TransPipeline) { t.stock.SetPipeline(p) }

// OnInactive implements remote.TransHandler.
func (t *transHandler) OnInactive(context.Context, net.Conn) {}

// OnError implements remote.TransHandler.
func (t *transHandler) OnError(context.Context, error, net.Conn) {}

// OnMessage implements remote.TransHandler; it is for transports that decode.
func (t *transHandler) OnMessage(ctx context.Context, _, _ remote.Message) (context.Context, error) {
	return ctx, nil
}

// Write implements remote.TransHandler; streams write for themselves.
func (t *transHandler) Write(ctx context.Context, _ net.Conn, _ remote.Message) (context.Context, error) {
	return ctx, errNotUsed
}

// Read implements remote.TransHandler; streams read for themselves.
func (t *transHandler) Read(ctx context.Context, _ net.Conn, _ remote.Message) (context.Context, error) {
	return ctx, errNotUsed
}

var errNotUsed = errors.New("streams do not go through the transport handler")
