// Package orders is what protoc makes of orders.proto, a service with messages as programs send them in JSON, and the
// proxy in JSON that one builds of it: grpc-gateway with compiled handlers.
package orders

import _ "embed" // Proto is

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative --grpc-gateway_out=. --grpc-gateway_opt=paths=source_relative,generate_unbound_methods=true orders.proto

// Proto is the source itself, for proxies that need no generated code.
//
//go:embed orders.proto
var Proto string
