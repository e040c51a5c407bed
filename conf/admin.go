package conf

// Admin is an HTTP address, for operators alone, where the proxy tells of itself.
type Admin struct {
	// Address is "host:port" or "unix:///path/to/socket". Whoever reaches it sees
	// everything that is there. Default 127.0.0.1:9901.
	Address string `yaml:"address"`
}

// admin checks the address. One of all networks must be meant.
func (v *validator) admin() {
	const path, hint = "admin.address", `write "host:port", such as "127.0.0.1:9901", or "unix:///path/to/socket"`
	a := v.config.Admin
	if a == nil {
		v.notNull("admin")
		return
	}
	parsed, ok := v.address(path, a.Address, hint)
	if ok && parsed.path == "" && parsed.host == "" {
		v.badValue(path, a.Address, "is open to all networks, as it has no host",
			`write "127.0.0.1`+a.Address+`", or "0.0.0.0`+a.Address+`" if that is meant`)
		return
	}
	v.listenerAddress(path, a.Address, hint)
}
