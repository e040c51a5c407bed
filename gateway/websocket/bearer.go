package websocket

import (
	"net/http"
	"strings"
)

const (
	protocolHeader = "Sec-WebSocket-Protocol"
	bearerProtocol = "bearer"
)

// takeBearer returns r with the token that is among its subprotocols where one
// belongs: in Authorization, if there is none. The token is not a subprotocol then.
func takeBearer(r *http.Request) *http.Request {
	offered := strings.Split(strings.Join(r.Header.Values(protocolHeader), ","), ",")
	if len(offered) != 2 || !strings.EqualFold(strings.TrimSpace(offered[0]), bearerProtocol) {
		return r
	}
	token := strings.TrimSpace(offered[1])
	if token == "" {
		return r
	}
	with := r.Clone(r.Context())
	with.Header.Set(protocolHeader, bearerProtocol)
	if with.Header.Get("Authorization") == "" {
		with.Header.Set("Authorization", "Bearer "+token)
	}
	return with
}
