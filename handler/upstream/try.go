package upstream

// TryAcquire is Acquire for those who cannot wait. It returns nil where Acquire
// would have to, or would fail.
func (p *Pool) TryAcquire(cluster, address string) *Conn {
	p.mu.RLock()
	in := p.instances[instanceKey{cluster, address}]
	p.mu.RUnlock()
	if in == nil {
		return nil
	}
	return in.pick()
}
