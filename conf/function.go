package conf

// Functions sends requests on by the name of a function: Prefix + "NAME", and what
// follows that.
type Functions struct {
	// Prefix is what paths begin with; it ends with "/". Default /function/.
	Prefix string `yaml:"prefix"`
	// Timeout is how long a function may take, up to 720h; streams and WebSockets take any
	// time. Default 10s.
	Timeout Duration `yaml:"timeout"`
	// GatewayErrors answers 504 when a function has taken too long, and 502 when it
	// cannot be reached. Default false: 500, as OpenFaaS does.
	GatewayErrors bool `yaml:"gateway_errors,omitempty"`
	// Routes are the functions by name; at least one.
	Routes map[string]*Function `yaml:"routes"`
}

// Function is what answers for a name; one of URL, Cluster and Method is set.
type Function struct {
	// URL is what paths and queries are added to: http or https.
	URL string `yaml:"url,omitempty"`
	// Cluster is the name of a cluster without TLS, over whose instances requests are
	// spread, in plaintext HTTP/1.1.
	Cluster string `yaml:"cluster,omitempty"`
	// Path is what paths are added to at the instances. With Cluster only. Default "": /.
	Path string `yaml:"path,omitempty"`
	// Method is the full method name of a gRPC method, "/package.Service/Method", of one of
	// the schemas of HTTP.Gateway: JSON in and out.
	Method string `yaml:"method,omitempty"`
}
