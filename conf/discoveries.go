package conf

import (
	"net/netip"
	"strings"
)

const endpointHint = `write "host:port"`

func (v *validator) discovery(path string, d *Discovery) {
	if d == nil {
		v.notNull(path)
		return
	}
	v.notBlank(KeyPath(path, "file"), d.File, pathHint)
	v.dns(KeyPath(path, "dns"), d.DNS)
	v.etcd(KeyPath(path, "etcd"), d.Etcd)
	v.notBlank(KeyPath(path, "registry"), d.Registry, "write the name of a registry that the program was given")
	v.registered(KeyPath(path, "service"), d)
	between(v, KeyPath(path, "refresh"), d.Refresh, minDiscoveryRefresh, maxDiscoveryRefresh)
	v.exactlyOne(path, option{"file", d.File != ""}, option{"dns", d.DNS != ""},
		option{"etcd", d.Etcd != nil}, option{"registry", d.Registry != ""})
}

// dns checks a name that has addresses, and their port.
func (v *validator) dns(path, address string) {
	if address == "" && !v.has(path) {
		return
	}
	const hint = `write "name:port"`
	parsed, ok := v.reachable(path, address, hint)
	_, notIP := netip.ParseAddr(parsed.host)
	switch {
	case !ok:
	case parsed.path != "":
		v.badValue(path, address, "is the address of a socket, not a name", "list it under instances")
	case notIP == nil:
		v.badValue(path, address, "is an IP address, not a name", "list it under instances")
	}
}

// registered checks the name that sources with many services are asked for.
func (v *validator) registered(path string, d *Discovery) {
	v.notBlank(path, d.Service, "write the name that the instances are registered under")
	named := d.Etcd != nil || d.Registry != ""
	switch {
	case v.isBroken(path):
	case named && d.Service == "":
		v.badField(path, "is needed with etcd and registry", "write the name that the instances are registered under")
	case !named && d.Service != "" && (d.File != "" || d.DNS != ""):
		v.badField(path, "is for etcd and registry only", "remove it")
	}
}

func (v *validator) etcd(path string, e *Etcd) {
	if e == nil {
		v.notNull(path)
		return
	}
	v.endpoints(KeyPath(path, "endpoints"), e.Endpoints)
	v.notBlank(KeyPath(path, "prefix"), e.Prefix, "write what keys begin with, or remove it")
	v.notBlank(KeyPath(path, "username"), e.Username, "write a name, or remove it")
	v.notBlank(KeyPath(path, "password_file"), e.PasswordFile, pathHint)
	v.together(path, option{"username", e.Username != ""}, option{"password_file", e.PasswordFile != ""})
	v.clusterTLS(KeyPath(path, "tls"), e.TLS)
}

func (v *validator) endpoints(path string, endpoints []string) {
	if len(endpoints) == 0 {
		v.require(path, "at least one is needed", `add one, such as "- 127.0.0.1:2379"`)
	}
	seen := map[string]string{}
	for i, address := range endpoints {
		path := ItemPath(path, i)
		parsed, ok := v.reachable(path, address, endpointHint)
		switch {
		case !ok:
		case parsed.path != "":
			v.badValue(path, address, "is the address of a socket", endpointHint)
		default:
			v.once(path, address, strings.ToLower(address), seen)
		}
	}
}
