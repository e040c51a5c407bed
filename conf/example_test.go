package conf_test

import (
	"errors"
	"fmt"

	"github.com/kitexproxy/kitexproxy/conf"
)

func ExampleParse() {
	_, err := conf.Parse("proxy.yaml", []byte(`
listners:
  - address: 127.0.0.1:8888
clusters:
  echo:
    instances: [127.0.0.1:9000]
default:
  cluster: ehco
timeouts:
  connect: 10
`))
	fmt.Println(err)

	var first *conf.Error
	if errors.As(err, &first) {
		fmt.Println("open the editor at line", first.Line)
	}
	// Output:
	// proxy.yaml:2:1: listners: unknown key; did you mean "listeners"?
	// proxy.yaml:8:3: default.cluster: "ehco" is not a cluster; did you mean "echo"? (clusters: echo)
	// proxy.yaml:10:3: timeouts.connect: "10" has no unit; write a number with a unit, such as "250ms", "10s" or "5m"
	// open the editor at line 2
}

func ExampleSimple() {
	c, err := conf.Simple(":8888", "127.0.0.1:9000")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Default.Cluster, c.Clusters["default"].Instances, c.Timeouts.Connect)
	// Output: default [127.0.0.1:9000] 3s
}

// What others find wrong with a rule is reported as a problem of the file.
func ExampleConfig_ErrorAt() {
	c, err := conf.Parse("proxy.yaml", []byte(`
listeners: [{address: 127.0.0.1:8888}]
clusters: {echo: {instances: ["127.0.0.1:9000"]}}
schemas: {echo: {files: [echo.proto]}}
default:
  cluster: echo
  mode: dynamic
  schema: echo
  rules:
    - name: no-names
      on: request
      set: {user.nmae: '"***"'}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	rule := conf.ItemPath("default.rules", 0)
	field := conf.KeyPath(conf.KeyPath(rule, "set"), "user.nmae")
	fmt.Println(c.ErrorAt(field, "", `User has no field "nmae"`, `did you mean "name"?`))
	// Output: proxy.yaml:12:13: default.rules[0].set."user.nmae": User has no field "nmae"; did you mean "name"?
}

func ExampleDiff() {
	before, _ := conf.Simple(":8888", "127.0.0.1:9000")
	after, _ := conf.Simple(":8888", "127.0.0.1:9001")
	after.Routes = []conf.Route{{Match: conf.Match{Service: "package.Service"}, Action: *after.Default}}
	for _, change := range conf.Diff(before, after) {
		fmt.Println(change)
	}
	// Output:
	// clusters.default.instances: [127.0.0.1:9000] -> [127.0.0.1:9001]
	// routes[0] added
}
