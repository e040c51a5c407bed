package demo

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
)

// rules returns those of the part in mode: dynamic, one for each scene. They do
// what the filters do.
func rules() [3]string {
	return [...]string{
		`- name: hide-passwords
  on: request
  method: Unary
  if: message.message.contains("password")
  redact: [message]
`,
		`- name: drop-even
  on: response
  method: Expand
  if: message.sequence % 2 == 0
  drop: true
`,
		`- name: refuse-secrets
  on: request
  method: Chat
  if: message.message.contains("secret")
  reject: {code: PERMISSION_DENIED, message: '"no secrets"'}
`,
	}
}

// dynamicConfig returns a configuration with rules for the Echo service, whose
// messages are known by a .proto file.
func dynamicConfig(backend, file string, rules ...string) (*conf.Config, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `
listeners: [{address: "127.0.0.1:0"}]
clusters: {demo: {instances: [%q]}}
schemas: {echo: {files: [%q]}}
routes:
  - match: {service: kitexproxy.echo.v1.Echo}
    cluster: demo
    mode: dynamic
    schema: echo
    rules:
`, backend, file)
	for _, rule := range rules {
		for line := range strings.Lines(rule) {
			b.WriteString("      " + line)
		}
	}
	return conf.Parse("the demo's rules", b.Bytes())
}
