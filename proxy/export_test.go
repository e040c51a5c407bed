package proxy

// UseStreams leads the calls of a native proxy through blocking streams, as
// modes that look at messages will. It is for before Run.
func UseStreams(p *Proxy) {
	if p.relay.native != nil {
		p.relay.native.blocking = true
	}
}
