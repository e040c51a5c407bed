package cluster

// leastRetries is how many attempts beside the first of their calls may always be
// under way, so that a cluster with few calls has retries at all.
const leastRetries = 3

// EnterRetry counts in an attempt that is made beside the first of its call, for
// LeaveRetry to count out. It reports false, and counts nothing, if there are as many
// under way as percent of the calls: what retries add to the load of a cluster that
// fails must not make it fail for good.
func (c *Cluster) EnterRetry(percent int) bool {
	allowed := max(leastRetries, c.Calls()*int64(percent)/100)
	if c.retries.Add(1) > allowed {
		c.retries.Add(-1)
		return false
	}
	return true
}

// LeaveRetry counts an attempt out.
func (c *Cluster) LeaveRetry() { c.retries.Add(-1) }
