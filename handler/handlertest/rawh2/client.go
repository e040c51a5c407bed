package rawh2

import (
	"context"
	"fmt"
	"net"
)

// Dial connects a client to addr and, unless opts say otherwise, sends the
// preface and SETTINGS.
func Dial(ctx context.Context, addr string, opts Options) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, SafetyTimeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("raw client: %w", err)
	}
	c := newConn(nc, true, opts)
	c.start()
	return c, nil
}
