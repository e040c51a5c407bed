package conf

import (
	"path/filepath"
	"slices"
	"strings"
)

// resolvePaths makes relative paths relative to the working directory that were
// relative to dir.
func (c *Config) resolvePaths(dir string) {
	for _, path := range c.paths() {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

// paths returns every path of a file or directory in c; "" where there is none.
func (c *Config) paths() []*string {
	var all []*string
	for i := range c.Listeners {
		all = append(all, c.Listeners[i].TLS.paths()...)
	}
	for _, cluster := range c.Clusters {
		all = append(all, cluster.Discovery.paths()...)
		all = append(all, cluster.TLS.paths()...)
	}
	for _, i := range c.Interceptors {
		all = append(all, i.paths()...)
	}
	for _, s := range c.Schemas {
		all = append(all, &s.DescriptorSet)
		all = append(all, pointers(s.Files)...)
		all = append(all, pointers(s.ImportPaths)...)
	}
	if c.HTTP != nil {
		for i := range c.HTTP.Listeners {
			all = append(all, c.HTTP.Listeners[i].TLS.paths()...)
		}
	}
	if c.AccessLog != nil && !slices.Contains(outputs, c.AccessLog.Output) {
		all = append(all, &c.AccessLog.Output)
	}
	if c.Tracing != nil {
		all = append(all, &c.Tracing.OTLP.CA)
	}
	return all
}

func (i *Interceptor) paths() []*string {
	var all []*string
	if i.APIKeys != nil {
		all = append(all, &i.APIKeys.File)
	}
	if i.JWT != nil {
		all = append(all, &i.JWT.JWKS.File, &i.JWT.JWKS.CA)
	}
	return all
}

func (t *ListenerTLS) paths() []*string {
	if t == nil {
		return nil
	}
	all := []*string{&t.ClientCA}
	for i := range t.Certificates {
		all = append(all, &t.Certificates[i].Cert, &t.Certificates[i].Key)
	}
	return all
}

func (d *Discovery) paths() []*string {
	if d == nil {
		return nil
	}
	all := []*string{&d.File}
	if d.Etcd != nil {
		all = append(all, &d.Etcd.PasswordFile)
		all = append(all, d.Etcd.TLS.paths()...)
	}
	return all
}

func (t *ClusterTLS) paths() []*string {
	if t == nil {
		return nil
	}
	return []*string{&t.CA, &t.Cert, &t.Key}
}

func pointers(texts []string) []*string {
	all := make([]*string, len(texts))
	for i := range texts {
		all[i] = &texts[i]
	}
	return all
}

// lowerKeys gives keys of metadata the form that they have on the wire, so that
// they can be compared as they are. c is valid, and so has no key twice.
func (c *Config) lowerKeys() {
	for _, cluster := range c.Clusters {
		if cluster.HashOn != nil {
			cluster.HashOn.Metadata = strings.ToLower(cluster.HashOn.Metadata)
		}
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		for j := range r.Match.Metadata {
			r.Match.Metadata[j].Key = strings.ToLower(r.Match.Metadata[j].Key)
		}
		r.Action.lowerKeys()
	}
	if c.Default != nil {
		c.Default.lowerKeys()
	}
	for _, i := range c.Interceptors {
		i.lowerKeys()
	}
	if c.HTTP != nil && c.HTTP.Gateway != nil {
		c.HTTP.Gateway.lowerKeys()
	}
	if c.AccessLog != nil {
		lowerAll(c.AccessLog.Metadata)
		lowerAll(c.AccessLog.Redact)
	}
	if c.Tracing != nil {
		c.Tracing.OTLP.Headers = lowerMap(c.Tracing.OTLP.Headers)
	}
}

func (i *Interceptor) lowerKeys() {
	switch {
	case i.APIKeys != nil:
		i.APIKeys.Header = strings.ToLower(i.APIKeys.Header)
	case i.JWT != nil:
		i.JWT.Header = strings.ToLower(i.JWT.Header)
		i.JWT.Claims = lowerMap(i.JWT.Claims)
	case i.RequestID != nil:
		i.RequestID.Header = strings.ToLower(i.RequestID.Header)
	case i.RateLimit != nil:
		i.RateLimit.Key = strings.ToLower(i.RateLimit.Key)
	case i.ConcurrencyLimit != nil:
		i.ConcurrencyLimit.Key = strings.ToLower(i.ConcurrencyLimit.Key)
	}
}

func (g *Gateway) lowerKeys() {
	lowerAll(g.RequestHeaders)
	lowerAll(g.ResponseHeaders)
	lowerAll(g.ResponseTrailers)
	lowerAll(g.WebSocket.Origins)
	for cookie, key := range g.Cookies {
		g.Cookies[cookie] = strings.ToLower(key)
	}
}

func (a *Action) lowerKeys() {
	for _, changes := range []*HeaderChanges{&a.RequestMetadata, &a.ResponseHeader, &a.ResponseTrailer} {
		changes.Set, changes.Add = lowerMap(changes.Set), lowerMap(changes.Add)
		lowerAll(changes.Remove)
	}
}

func lowerAll(keys []string) {
	for i, key := range keys {
		keys[i] = strings.ToLower(key)
	}
}

func lowerMap[T any](values map[string]T) map[string]T {
	if values == nil {
		return nil
	}
	lower := make(map[string]T, len(values))
	for key, value := range values {
		lower[strings.ToLower(key)] = value
	}
	return lower
}
