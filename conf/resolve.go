package conf

import (
	"path/filepath"
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
	for _, s := range c.Schemas {
		all = append(all, &s.DescriptorSet)
		all = append(all, pointers(s.Files)...)
		all = append(all, pointers(s.ImportPaths)...)
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
}

func (a *Action) lowerKeys() {
	for _, changes := range []*HeaderChanges{&a.RequestMetadata, &a.ResponseHeader, &a.ResponseTrailer} {
		changes.Set, changes.Add = lowerMap(changes.Set), lowerMap(changes.Add)
		for i, key := range changes.Remove {
			changes.Remove[i] = strings.ToLower(key)
		}
	}
}

func lowerMap(values map[string]string) map[string]string {
	if values == nil {
		return nil
	}
	lower := make(map[string]string, len(values))
	for key, value := range values {
		lower[strings.ToLower(key)] = value
	}
	return lower
}
