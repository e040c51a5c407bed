package proxy_test

import (
	"testing"

	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

func TestMain(m *testing.M) { proxytest.Main(m) }
