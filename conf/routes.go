package conf

import "regexp"

// Valid values of an Action.
var (
	modes        = []string{string(ModeFrame), string(ModeStruct), string(ModeDynamic)}
	undecodables = []string{UndecodableReject, UndecodableForward}
)

// placeName is what a route without a name is called.
var placeName = regexp.MustCompile(`^routes\[[0-9]+\]$`)

// routes checks the routes and the default action.
func (v *validator) routes() {
	if len(v.config.Routes) == 0 && v.config.Default == nil && !v.isBroken("default") {
		v.require("routes", "there are neither routes nor a default, so that no call could be answered",
			"add a default with the name of a cluster")
	}
	names := map[string]string{}
	for i := range v.config.Routes {
		path, route := ItemPath("routes", i), &v.config.Routes[i]
		if v.isBroken(path) {
			continue
		}
		v.routeName(KeyPath(path, "name"), route.Name, names)
		v.match(KeyPath(path, "match"), &route.Match)
		v.action(path, &route.Action)
		v.rules(path, &route.Action, &route.Match)
	}
	if v.config.Default != nil {
		v.action("default", v.config.Default)
		v.rules("default", v.config.Default, nil)
	}
}

// routeName checks a name that a route may have. names holds the path of each so
// far.
func (v *validator) routeName(path, name string, names map[string]string) {
	v.notBlank(path, name, "write a name that no other route has, or remove it")
	switch {
	case name == "" || v.isBroken(path):
	case !ruleName.MatchString(name):
		v.badValue(path, name, "is not a name for a route", "write one line of 1 to 63 characters, with no space at the ends")
	case placeName.MatchString(name):
		v.badValue(path, name, "is what a route without a name is called", "write another one")
	case name == "default":
		v.badValue(path, name, "is what calls that no route matches are counted under", "write another one")
	case names[name] != "":
		v.badValue(path, name, "is already "+v.reference(names[name]), "rename one of the two")
	default:
		names[name] = path
	}
}

func (v *validator) action(path string, a *Action) {
	v.destination(path, a)
	v.linkRefs(KeyPath(path, "interceptors"), a.Interceptors)
	v.mirror(KeyPath(path, "mirror"), a.Mirror)
	v.oneOf(KeyPath(path, "mode"), string(a.Mode), modes)
	between(v, KeyPath(path, "timeout"), a.Timeout, 0, maxTimeout)
	between(v, KeyPath(path, "unary_timeout"), a.UnaryTimeout, 0, maxTimeout)
	between(v, KeyPath(path, "idle_timeout"), a.IdleTimeout, 0, maxTimeout)
	v.headerChanges(KeyPath(path, "request_metadata"), &a.RequestMetadata)
	v.headerChanges(KeyPath(path, "response_header"), &a.ResponseHeader)
	v.headerChanges(KeyPath(path, "response_trailer"), &a.ResponseTrailer)
	v.retry(KeyPath(path, "retry"), a.Retry)
	between(v, KeyPath(path, "message_limit"), a.MessageLimit, 0, maxMessage)
	if undecodable := KeyPath(path, "undecodable"); a.Undecodable != "" || v.has(undecodable) {
		v.oneOf(undecodable, a.Undecodable, undecodables)
	}
	v.schemaRef(path, a)
}

// destination checks that calls go to a cluster or are spread over some.
func (v *validator) destination(path string, a *Action) {
	cluster, split := KeyPath(path, "cluster"), KeyPath(path, "split")
	switch {
	case len(a.Split) == 0 && v.touched[split]: // there is one, but it cannot be read
	case len(a.Split) == 0:
		v.clusterRef(cluster, a.Cluster)
	case a.Cluster != "" || v.has(cluster):
		if !v.isBroken(split) {
			v.badField(split, "is not possible beside cluster", "remove one of the two")
		}
	default:
		v.split(split, a.Split)
	}
}

func (v *validator) split(path string, split []WeightedCluster) {
	seen, sum := map[string]string{}, 0
	for i, s := range split {
		path := ItemPath(path, i)
		if v.isBroken(path) {
			continue
		}
		cluster, weight := KeyPath(path, "cluster"), KeyPath(path, "weight")
		v.clusterRef(cluster, s.Cluster)
		if !v.isBroken(cluster) {
			v.once(cluster, s.Cluster, s.Cluster, seen)
		}
		if v.has(path) && !v.has(weight) {
			v.require(weight, "is needed", "write its share, such as 90 of 100")
		}
		between(v, weight, s.Weight, 0, maxSplitWeight)
		sum += s.Weight
	}
	if sum == 0 {
		v.require(path, "has no weight of more than 0, so that no call could be answered", "raise one")
	}
}

func (v *validator) mirror(path string, m *Mirror) {
	if m == nil {
		v.notNull(path)
		return
	}
	v.clusterRef(KeyPath(path, "cluster"), m.Cluster)
	between(v, KeyPath(path, "percent"), m.Percent, 0, 100)
}

func (v *validator) clusterRef(path, name string) {
	if v.isBroken(path) || v.isBroken("clusters") {
		return
	}
	if _, ok := v.config.Clusters[name]; !ok {
		v.choice(path, name, "is not a cluster", "clusters", v.clusterNames)
	}
}

// schemaRef checks that an action has a schema if its mode takes one.
func (v *validator) schemaRef(path string, a *Action) {
	path = KeyPath(path, "schema")
	if v.isBroken(path) || v.isBroken(KeyPath(parent(path), "mode")) {
		return
	}
	_, known := v.config.Schemas[a.Schema]
	switch {
	case a.Mode != ModeDynamic && a.Schema != "":
		v.badValue(path, a.Schema, "is not for "+modeReason(a.Mode), "remove it, or write mode: dynamic")
	case a.Mode != ModeDynamic:
		v.notBlank(path, a.Schema, "remove it")
	case known || v.isBroken("schemas"):
	case len(v.schemaNames) == 0:
		v.badField(path, "is needed with mode: dynamic, and there are no schemas", "add one under schemas, as conf/proxy.yaml does")
	case a.Schema == "":
		v.badField(path, "is needed with mode: dynamic", "schemas: "+enumerate(v.schemaNames))
	default:
		v.choice(path, a.Schema, "is not a schema", "schemas", v.schemaNames)
	}
}

// modeReason names a mode other than dynamic, and why it has no schema and no
// rules.
func modeReason(m Mode) string {
	if m == ModeStruct {
		return "mode: struct, which has generated types and filters in Go"
	}
	return "mode: frame, which looks into no message"
}
