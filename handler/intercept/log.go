package intercept

import (
	"log/slog"
)

// DebugLog is an Observer that logs each call at its end, at debug level.
type DebugLog struct{ Logger *slog.Logger }

// Begin implements Observer.
func (DebugLog) Begin(*Call) {}

// End implements Observer.
func (d DebugLog) End(c *Call) {
	o := c.Outcome()
	d.Logger.Debug("call", "method", c.Method(), "peer", c.Peer().String(), "route", c.Route(), "cluster", c.Cluster(),
		"instance", c.Instance(), "attempts", c.Attempts(), "code", o.Status.Code.String(), "reason", string(o.Reason),
		"message", o.Status.Message, "took", o.Took)
}
