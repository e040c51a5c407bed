package conf

import (
	"slices"
	"strings"
)

// HTTP is what answers HTTP clients that know no gRPC. One of Gateway and Functions at
// least is set.
type HTTP struct {
	// Listeners are the addresses that accept HTTP requests; at least one.
	Listeners []HTTPListener `yaml:"listeners"`
	// Gateway makes gRPC calls of requests with JSON. Default nil: none.
	Gateway *Gateway `yaml:"gateway,omitempty"`
	// Functions sends requests on by the name of a function. Default nil: none.
	Functions *Functions `yaml:"functions,omitempty"`
}

// HTTPListener is one address that accepts requests in HTTP/1.1 and HTTP/2.
type HTTPListener struct {
	// Address is as Listener.Address; no two listeners share one.
	Address string `yaml:"address"`
	// TLS encrypts its connections. Default nil: plaintext.
	TLS *ListenerTLS `yaml:"tls,omitempty"`
	// Interceptors are as Listener.Interceptors: around the calls that the gateway
	// makes, and around functions.
	Interceptors []string `yaml:"interceptors,omitempty"`
	// TrustedProxies are the networks, "10.0.0.0/8", or IP addresses of proxies whose
	// X-Forwarded-For, -Host and -Proto are believed. Default none: those of everybody
	// are removed.
	TrustedProxies []string `yaml:"trusted_proxies,omitempty"`
}

func (v *validator) httpListeners() {
	if v.config.HTTP == nil {
		return
	}
	if len(v.config.HTTP.Listeners) == 0 {
		v.require("http.listeners", "at least one is needed", `add one, such as "- address: 127.0.0.1:8080"`)
	}
	for i := range v.config.HTTP.Listeners {
		path, l := ItemPath("http.listeners", i), &v.config.HTTP.Listeners[i]
		v.listenerAddress(KeyPath(path, "address"), l.Address, listenerHint)
		v.listenerTLS(KeyPath(path, "tls"), l.TLS)
		v.linkRefs(KeyPath(path, "interceptors"), l.Interceptors)
		v.certificateLinks(path, l.Interceptors, l.TLS)
		v.peers(KeyPath(path, "trusted_proxies"), l.TrustedProxies)
		v.freePorts(i)
	}
}

// freePorts checks that a listener with a free port believes the same proxies as others
// that are written in the same way, as nothing else tells their requests apart.
func (v *validator) freePorts(i int) {
	all, path := v.config.HTTP.Listeners, KeyPath(ItemPath("http.listeners", i), "address")
	l := &all[i]
	first := slices.IndexFunc(all, func(o HTTPListener) bool { return o.Address == l.Address })
	if parsed, problem, _ := parseAddress(l.Address); problem != "" || parsed.path != "" || parsed.port != 0 {
		return // what is wrong with two of them has been told
	}
	if !slices.Equal(all[first].TrustedProxies, l.TrustedProxies) {
		v.badValue(path, l.Address, "is, with any port, that of "+v.reference(ItemPath("http.listeners", first))+
			", too, whose trusted_proxies are others", "give one of the two a port")
	}
}

// http checks what is answered, wherever that is asked for.
func (v *validator) http() {
	h := v.config.HTTP
	if h == nil {
		v.notNull("http")
		return
	}
	v.gateway("http.gateway", h.Gateway)
	v.functions("http.functions", h.Functions)
	if h.Gateway == nil && h.Functions == nil {
		v.require("http", "answers nothing", "add gateway or functions")
	}
	if h.Gateway != nil && h.Functions != nil {
		v.apart(h)
	}
}

// apart checks that the gateway and functions do not answer for the same paths.
func (v *validator) apart(h *HTTP) {
	const functions = "http.functions.prefix"
	if v.isBroken(functions) {
		return
	}
	for _, of := range []struct{ path, value, begins string }{
		{"http.gateway.prefix", h.Gateway.Prefix, h.Gateway.Prefix + "/"},
		{"http.gateway.openapi", h.Gateway.OpenAPI, h.Gateway.OpenAPI},
	} {
		if strings.HasPrefix(of.begins, h.Functions.Prefix) && !v.isBroken(of.path) {
			v.badValue(of.path, of.value, "is under "+v.reference(functions), "write another one")
		}
	}
}
