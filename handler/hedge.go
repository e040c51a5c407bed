package handler

import (
	"slices"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// header returns the head of the present attempt's response, and has the policy's
// attempts made beside one that takes its time.
func (r *resend) header() (*stream.Header, error) {
	policy := r.call.target.Retry
	if policy == nil || policy.Hedge == 0 {
		return r.current().Header()
	}
	h := hedge{resend: r, policy: policy, results: make(chan hedged, policy.Attempts)}
	return h.run()
}

// hedge is a race of attempts for the first response. It is run by the reader; what
// blocks is done by a goroutine for each attempt.
type hedge struct {
	*resend
	policy  *conf.Retry
	results chan hedged // with room for all, so that none waits
	racing  []*racer
}

// racer is an attempt that takes part.
type racer struct{ giveUp func() }

// hedged is what has come of one: attempt is nil if it could not be opened.
type hedged struct {
	by      *racer
	attempt *attempt
	header  *stream.Header
	err     error
}

// run returns the head of the first response that the policy does not have retried,
// or what has come of the last attempt if there is none. The attempts that lose are
// given up, and over when it returns.
func (h *hedge) run() (*stream.Header, error) {
	h.join(h.current())
	timer := time.NewTimer(time.Duration(h.policy.Hedge))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			if h.more() {
				timer.Reset(time.Duration(h.policy.Hedge))
			}
		case got := <-h.results:
			h.racing = slices.DeleteFunc(h.racing, func(other *racer) bool { return other == got.by })
			if len(h.racing) == 0 || !h.mayLose(got) {
				h.finish(got)
				return got.header, got.err
			}
			if pause, allowed := h.lose(got); allowed {
				timer.Reset(pause)
			} else {
				timer.Stop()
			}
		}
	}
}

// join has the present attempt take part.
func (h *hedge) join(a *attempt) {
	by := &racer{giveUp: a.Abort}
	h.racing = append(h.racing, by)
	go func() { // ends when the attempt has a response, or is given up; run waits for it
		head, err := a.Header()
		h.results <- hedged{by, a, head, err}
	}()
}

// more makes one more attempt, if all of the request is there to be sent. It reports
// whether there may be others later.
func (h *hedge) more() bool {
	h.mu.Lock()
	sent, n, complete, committed := h.sent, h.sentBytes, h.complete, h.committed
	h.mu.Unlock()
	switch {
	case committed || n > int(h.policy.Buffer) || h.sends >= h.policy.Attempts:
		return false
	case !complete || !h.call.target.Cluster.EnterRetry(h.policy.BudgetPercent):
		return true
	}
	t := h.newRetry()
	by := &racer{giveUp: t.cancel}
	h.racing = append(h.racing, by)
	go func() { // as join's
		got := hedged{by: by}
		if got.attempt, got.err = h.openNext(t); got.err == nil {
			got.attempt.replay(sent, n, true)
			got.header, got.err = got.attempt.Header()
		}
		h.results <- got
	}()
	return true
}

// mayLose reports whether others that are under way may do better. One that no
// backend has begun is as good as none.
func (h *hedge) mayLose(got hedged) bool {
	if got.header != nil {
		return false
	}
	code, _ := h.outcome(got.attempt, got.err)
	return retryable(h.policy, code) || got.err != nil && stream.AsFailure(got.err).Unprocessed
}

// lose lets go of an attempt that has failed, and returns how long to wait before
// another one is made; it reports false if there is to be none.
func (h *hedge) lose(got hedged) (time.Duration, bool) {
	code, trailer := h.outcome(got.attempt, got.err)
	if got.attempt != nil {
		got.attempt.close(h.resultOf(code, got.err))
	}
	return h.pauseBefore(h.policy, trailer)
}

// finish goes on with the attempt that has won, or the last, and gives up the others.
func (h *hedge) finish(got hedged) {
	if got.attempt == nil {
		got.attempt = unopened(got.err)
	}
	h.mu.Lock()
	h.cur = got.attempt
	h.mu.Unlock()
	for _, other := range h.racing {
		other.giveUp()
	}
	for range h.racing {
		if late := <-h.results; late.attempt != nil {
			late.attempt.close(cluster.Unknown)
		}
	}
}
