// Package auth has the links that know who makes a call, and who may: API keys,
// JSON Web Tokens (RFC 7519), certificates of clients, and rules by method and
// identity. Beside them is the one that gives calls an ID.
//
// All are guards of package intercept: they decide as a call begins, by what is in
// memory, and never wait. Files and URLs are read beside calls; what cannot be used
// leaves what was there before in force.
//
// No error and no line of a log has a key or a token in it.
package auth
