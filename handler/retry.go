package handler

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// This file is what routes with a retry policy have beside sending again what no
// backend has begun. It keeps to gRPC proposal A6
// (https://github.com/grpc/proposal/blob/master/A6-client-retries.md).

// pushbackKey is the trailer in which a backend says when it may be asked again, in
// milliseconds: never, if that is no number or a negative one.
const pushbackKey = "grpc-retry-pushback-ms"

// retry makes another attempt if the route's policy has it so, after the pause that
// it asks for. err is why the present attempt has no response, nil for a response
// that is trailers-only. It reports false if there is no other attempt.
func (r *resend) retry(err error) bool {
	policy := r.call.target.Retry
	if policy == nil || r.ctx.Err() != nil || !r.mayBeSentAgain(policy) {
		return false
	}
	code, trailer := r.outcome(r.current(), err)
	if !retryable(policy, code) || isTooMuch(err) {
		return false
	}
	pause, allowed := r.pauseBefore(policy, trailer)
	if !allowed || !r.pause(pause) || !r.call.target.Cluster.EnterRetry(policy.BudgetPercent) {
		return false
	}
	next, openErr := r.openNext(r.newRetry())
	if openErr != nil {
		next = unopened(openErr)
	}
	return r.replace(next, r.resultOf(code, err))
}

// mayBeSentAgain reports whether the whole request so far is at hand, and no longer
// than the policy allows.
func (r *resend) mayBeSentAgain(policy *conf.Retry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.committed && r.sentBytes <= int(policy.Buffer)
}

// outcome is what has come of an attempt that has no response header: its status,
// and the trailer if it is the backend's own.
func (r *resend) outcome(a *attempt, err error) (stream.Code, *stream.Trailer) {
	if err != nil {
		return r.call.failure(err).Code, nil
	}
	t := a.Trailer()
	return t.Status.Code, t
}

// resultOf says what an outcome tells of the instance.
func (r *resend) resultOf(code stream.Code, err error) cluster.Result {
	if err != nil {
		return r.blame(err)
	}
	return tries.ResultOf(code)
}

func retryable(policy *conf.Retry, code stream.Code) bool {
	return slices.Contains(policy.Codes, conf.Code(code.String()))
}

// isTooMuch reports whether an attempt was one more than the cluster may have. Such a
// call ends at once, whatever the policy says of its code: others would only be more.
func isTooMuch(err error) bool {
	return err != nil && stream.AsFailure(err).Reason == stream.Overloaded
}

// pauseBefore returns how long to wait before the next attempt. trailer is that of
// the one that has failed, nil if it has none. It reports false if there is to be no
// other.
func (r *resend) pauseBefore(policy *conf.Retry, trailer *stream.Trailer) (time.Duration, bool) {
	if r.sends >= policy.Attempts {
		return 0, false
	}
	if trailer != nil {
		if v, asked := lookUp(trailer.Metadata, pushbackKey); asked {
			r.waits = 0
			ms, err := strconv.ParseInt(v, 10, 32)
			return time.Duration(ms) * time.Millisecond, err == nil && ms >= 0
		}
	}
	backoff := min(time.Duration(policy.Backoff)<<r.waits, time.Duration(policy.MaxBackoff))
	r.waits++
	return time.Duration((0.8 + 0.4*rand.Float64()) * float64(backoff)), true
}

func lookUp(md stream.Metadata, key string) (string, bool) {
	i := slices.IndexFunc(md, func(f stream.Field) bool { return f.Key == key })
	if i < 0 {
		return "", false
	}
	return md[i].Value, true
}

// attemptContext returns the context of an attempt, and what goes with it: a policy
// may limit how long it takes to get a response header.
func (r *resend) attemptContext() (context.Context, goesWith) {
	policy := r.call.target.Retry
	if policy == nil {
		return r.ctx, goesWith{}
	}
	ctx, cancel := context.WithCancelCause(r.ctx)
	with := goesWith{cancel: func() { cancel(nil) }}
	if policy.AttemptTimeout > 0 {
		late := failAttemptTimeout(r.call.target)
		with.timer = time.AfterFunc(time.Duration(policy.AttemptTimeout), func() { cancel(late) })
	}
	return ctx, with
}

// newRetry is newTry for one attempt more, which the cluster has counted in.
func (r *resend) newRetry() try {
	r.sends++
	t := r.newTry()
	t.leave = r.call.target.Cluster.LeaveRetry
	return t
}
