package conf

import (
	"maps"
	"slices"
	"strings"
)

const (
	functionPrefixHint = `write one that ends with "/", such as "/function/"`
	functionURLHint    = `write one such as "http://127.0.0.1:8081/path"`
)

func (v *validator) functions(path string, f *Functions) {
	if f == nil {
		v.notNull(path)
		return
	}
	v.functionPrefix(KeyPath(path, "prefix"), f.Prefix)
	v.moreThanZero(KeyPath(path, "timeout"), f.Timeout, maxTimeout)
	routes := KeyPath(path, "routes")
	if len(f.Routes) == 0 {
		v.require(routes, "at least one is needed", `add one, such as "resize: {url: http://127.0.0.1:8081}"`)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Routes)) {
		path, function := KeyPath(routes, name), f.Routes[name]
		if function == nil {
			v.badField(path, "must not be nil", "")
			continue
		}
		v.function(path, function)
		v.name(path, name, "a function") // last, as it silences checks below path
	}
}

func (v *validator) functionPrefix(path, prefix string) {
	switch ok := v.urlPath(path, prefix, functionPrefixHint); {
	case !ok:
	case prefix == "/":
		v.badValue(path, prefix, "takes every path", functionPrefixHint)
	case !strings.HasSuffix(prefix, "/"):
		v.badValue(path, prefix, `does not end with "/"`, functionPrefixHint)
	}
}

func (v *validator) function(path string, f *Function) {
	at := KeyPath(path, "url")
	if f.URL != "" || v.has(at) {
		v.notEmpty(at, f.URL, functionURLHint)
		v.url(at, f.URL, functionURLHint)
	}
	v.functionCluster(KeyPath(path, "cluster"), f)
	v.functionPath(KeyPath(path, "path"), f)
	v.functionMethod(KeyPath(path, "method"), f.Method)
	v.exactlyOne(path, option{"url", f.URL != ""}, option{"cluster", f.Cluster != ""}, option{"method", f.Method != ""})
}

// functionCluster checks that a cluster can answer without gRPC.
func (v *validator) functionCluster(path string, f *Function) {
	if f.Cluster == "" && !v.has(path) {
		return
	}
	v.clusterRef(path, f.Cluster)
	c := v.config.Clusters[f.Cluster]
	switch {
	case c == nil || v.isBroken(path):
	case c.TLS != nil:
		v.badValue(path, f.Cluster, "has tls, and functions are asked in plaintext", "write their https URL instead")
	case c.HashOn != nil && c.HashOn.Field != "":
		v.badValue(path, f.Cluster, "is balanced by a field of messages, which functions do not have",
			"hash on metadata or peer")
	case slices.ContainsFunc(c.Instances, func(address string) bool { return strings.HasPrefix(address, unixScheme) }):
		v.badValue(path, f.Cluster, "has an instance at a Unix socket, and functions are asked by TCP", "name a cluster without one")
	}
}

func (v *validator) functionPath(path string, f *Function) {
	if f.Path == "" && !v.has(path) {
		return
	}
	if v.urlPath(path, f.Path, `write one such as "/base"`) && f.Cluster == "" && (f.URL != "" || f.Method != "") {
		v.badValue(path, f.Path, "is for cluster only", "remove it")
	}
}

// functionMethod checks a gRPC method, whose messages the gateway knows.
func (v *validator) functionMethod(path, method string) {
	if method == "" && !v.has(path) {
		return
	}
	if v.method(path, method) && v.config.HTTP.Gateway == nil && !v.touched["http.gateway"] {
		v.badValue(path, method, "needs http.gateway, which knows the messages of methods", "add it")
	}
}
