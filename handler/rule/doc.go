// Package rule makes filters of rules that are written in the configuration,
// for routes whose messages are known by their schema only (mode: dynamic). A
// rule says at which point of a call it is asked, under which condition, and
// what it does then:
//
//   - name: eu customers
//     on: request
//     if: message.customer.country in ["DE", "FR"] && !("x-test" in metadata)
//     set: {customer.region: '"eu"'}
//     redact: [customer.notes]
//     cluster: '"orders-eu"'
//
// Conditions and values are expressions in CEL, the Common Expression Language
// (https://cel.dev), over these variables:
//
//	message         the message, at request and response
//	metadata        the client's request metadata: first values by key
//	metadata_all    the same: lists of all values by key
//	method          "/package.Service/Method"
//	service         "package.Service"
//	authority       the :authority that the client asked for
//	peer, peer_ip   the client's address, "host:port" and "host"
//	number          which message of its direction it is, from 1
//	cluster, route  where the call goes as yet
//	header          the response's header, from header on: first values by key
//	code, code_name, status_message
//	                the status that the client gets, at end
//	trailer         the trailer that it comes with, at end: first values by key
//
// Keys of metadata are in lower case, looking one up ignores case, and values of
// keys that end in "-bin" are bytes in a string, as filter.Metadata has them.
//
// Next to what every CEL has there are its extensions for strings, base64, math,
// sets, optional values (message.?field.orValue("")), addresses
// (cidr("10.0.0.0/8").containsIP(peer_ip)) and cel.bind. Names of types and enum
// values are taken from the package of the method, and may be full. A field is
// called by its name in the schema or by its JSON name. Nothing in an expression
// has a side effect, and its value depends on the call only: there is no now().
//
// What an expression may take is limited; see costLimit. One that cannot be
// evaluated ends its call with INTERNAL, by a text that names the rule and the
// place in it, and has nothing of the message.
//
// All expressions of a rule see the message as it was before the rule. The
// changes are made in this order: metadata, cluster, set, clear, redact; and
// then the message is dropped, or the call rejected. A rule that changes nothing
// lets a message go on byte for byte as it came.
package rule
