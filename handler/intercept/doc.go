// Package intercept holds what goes on around whole calls, whatever their mode and
// whoever makes them: interceptors and guards, which decide about calls, and
// observers, which are told of them.
//
// An Interceptor is around a call as gRPC's are: it runs in a goroutine of the call,
// may block, and calls next to let the call go on. A Guard only looks at a call as it
// begins, and must not block: calls that have nothing but guards around them keep
// frame mode's path without a goroutine. Observers change nothing.
//
// Links (interceptors and guards) run in order: those of the listener before the
// call's backend is chosen, those of its route then. Filters, which look at messages,
// come behind them.
package intercept
