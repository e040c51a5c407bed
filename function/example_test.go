package function_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/openfaas/faas-provider/types"

	"github.com/kitexproxy/kitexproxy/function"
)

// inNamespace is a resolver of functions that are services of the same name.
type inNamespace string

func (n inNamespace) Resolve(name string) (url.URL, error) {
	return url.URL{Scheme: "http", Host: name + "." + string(n)}, nil // port 8080
}

// A provider of OpenFaaS needs a resolver and nothing else.
func ExampleNewHandlerFunc() {
	config := types.FaaSConfig{ReadTimeout: time.Minute, MaxIdleConns: 100}
	handler := function.NewHandlerFunc(config, inNamespace("openfaas-fn.svc"), hclog.NewNullLogger())

	http.Handle("/function/", handler)
}

// instances picks one of several instances in turn, and is told how the call went.
type instances struct {
	urls []url.URL
	next int
}

func (i *instances) Resolve(string) (url.URL, error) { return i.urls[0], nil }

func (i *instances) Pick(_ *http.Request, name string) (function.Target, error) {
	chosen := i.urls[i.next%len(i.urls)]
	i.next++
	return function.Target{URL: chosen, Done: func(status int, err error) {
		fmt.Println(name, "answered", status, err)
	}}, nil
}

// A resolver that is a Picker chooses for each call.
func ExampleNew() {
	hello := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello, "+r.URL.Path[1:]+"\n")
	}))
	defer hello.Close()
	base, _ := url.Parse(hello.URL)

	proxy := httptest.NewServer(function.New(function.Options{
		Resolver:       &instances{urls: []url.URL{*base}},
		GatewayErrors:  true,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}))
	response, err := http.Get(proxy.URL + "/function/greet/world")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = io.Copy(os.Stdout, response.Body)
	_ = response.Body.Close()
	proxy.Close() // waits for the call to end

	// Unordered output:
	// hello, world
	// greet answered 200 <nil>
}
