package proxy_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// A schema that backends have told outlives a reload in which they do not answer.
func TestReloadKeepsWhatBackendsHaveToldOfTypes(t *testing.T) {
	backend := startWitness(t, "main")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	stop := (&witness{calls: make(chan *seen, 9)}).serve(ln, newTypes(t, noteFile("text", "1")).v1)
	config := func(mark string) *conf.Config {
		cfg := dynamicConfig(t, backend.addr, ln.Addr().String(), "schemas: {notes: {reflection: {cluster: other}}}\nroutes:\n"+
			proxytest.Route("service: notes.v1.Notes", "notes", `- {name: mark, on: request, set: {text: 'message.text + "`+mark+`"'}}`))
		cfg.Timeouts.Connect = conf.Duration(200 * time.Millisecond)
		return cfg
	}
	f := startCluster(t, config("!"))
	d := &dynamicSetup{faultProxy: f.faultProxy, main: backend}
	d.becomes(t, "hello", "hello!")
	stop()
	for _, mark := range []string{"?", "."} {
		f.reload(config(mark))
		require.Equal(t, "hello"+mark, d.said(t, "hello"))
	}
}
