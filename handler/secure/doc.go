// Package secure makes the TLS configurations of listeners and of connections to
// backends from what the configuration says. They follow their files: a certificate
// that is replaced on disk is in force a second later, for the next handshake, and
// one that cannot be used leaves the one before in force.
//
// There is no goroutine to end: handshakes look at the files, once a second at
// most.
package secure
