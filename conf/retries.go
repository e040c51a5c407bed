package conf

import "slices"

const codeDeadlineExceeded = Code("DEADLINE_EXCEEDED")

func (v *validator) retry(path string, r *Retry) {
	if r == nil {
		v.notNull(path)
		return
	}
	v.retryCodes(KeyPath(path, "codes"), r)
	between(v, KeyPath(path, "attempts"), r.Attempts, minAttempts, maxAttempts)
	v.backoff(path, r)
	between(v, KeyPath(path, "attempt_timeout"), r.AttemptTimeout, 0, maxTimeout)
	between(v, KeyPath(path, "buffer"), r.Buffer, 0, maxBuffer)
	between(v, KeyPath(path, "budget_percent"), r.BudgetPercent, 0, maxBudgetPercent)
	between(v, KeyPath(path, "hedge"), r.Hedge, 0, maxHedge)
}

// retryCodes checks the statuses that another attempt follows.
func (v *validator) retryCodes(path string, r *Retry) {
	if len(r.Codes) == 0 {
		v.require(path, "at least one is needed", "add one, such as UNAVAILABLE")
	}
	seen := map[string]string{}
	for i, code := range r.Codes {
		path := ItemPath(path, i)
		if v.code(path, code); !v.isBroken(path) {
			v.once(path, string(code), string(code), seen)
		}
	}
	if r.AttemptTimeout > 0 && !v.touched[path] && !v.isBroken(path) && !slices.Contains(r.Codes, codeDeadlineExceeded) {
		v.badField(path, "have no DEADLINE_EXCEEDED, which is how an attempt ends by attempt_timeout",
			"add it, or remove attempt_timeout")
	}
}

func (v *validator) backoff(path string, r *Retry) {
	first, longest := KeyPath(path, "backoff"), KeyPath(path, "max_backoff")
	between(v, first, r.Backoff, 0, maxFirstBackoff)
	between(v, longest, r.MaxBackoff, 0, maxBackoff)
	if r.MaxBackoff < r.Backoff && !v.isBroken(first) && !v.isBroken(longest) {
		v.badValue(longest, r.MaxBackoff.String(), "is less than backoff", "write at least "+v.written(first, r.Backoff))
	}
}
