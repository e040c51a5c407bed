package conf

func (v *validator) health(path string, h *Health) {
	if h == nil {
		v.notNull(path)
		return
	}
	v.check(KeyPath(path, "check"), h.Check)
	v.eject(KeyPath(path, "eject"), h.Eject)
	between(v, KeyPath(path, "slow_start"), h.SlowStart, 0, maxSlowStart)
}

func (v *validator) check(path string, c *HealthCheck) {
	if c == nil {
		v.notNull(path)
		return
	}
	between(v, KeyPath(path, "interval"), c.Interval, minCheckInterval, maxCheckInterval)
	v.moreThanZero(KeyPath(path, "timeout"), c.Timeout, maxCheckTimeout)
	between(v, KeyPath(path, "unhealthy"), c.Unhealthy, 1, maxCheckAnswers)
	between(v, KeyPath(path, "healthy"), c.Healthy, 1, maxCheckAnswers)
}

func (v *validator) eject(path string, e *Eject) {
	if e == nil {
		v.notNull(path)
		return
	}
	between(v, KeyPath(path, "consecutive"), e.Consecutive, 0, maxConsecutive)
	between(v, KeyPath(path, "failure_percent"), e.FailurePercent, 0, 100)
	between(v, KeyPath(path, "min_calls"), e.MinCalls, 1, maxMinCalls)
	between(v, KeyPath(path, "interval"), e.Interval, minEjectInterval, maxEjectInterval)
	between(v, KeyPath(path, "for"), e.For, minEjection, maxEjection)
	between(v, KeyPath(path, "max_percent"), e.MaxPercent, 0, 100)
	if e.Consecutive == 0 && e.FailurePercent == 0 {
		v.require(path, "takes no instance out", "set consecutive or failure_percent, or remove it")
	}
}
