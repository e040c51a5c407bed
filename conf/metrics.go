package conf

import "fmt"

// Metrics are what Prometheus gets at the admin address. Without Admin nothing is
// counted for it.
type Metrics struct {
	// Methods is how many methods are counted apart, 1 to 100000. Calls of further ones,
	// and calls that no route matches, count as "other". Default 1000.
	Methods int `yaml:"methods"`
	// Buckets are the upper bounds of the histograms of durations, in seconds: up to 100,
	// each more than the one before, from more than 0 to 86400. Default 0.001 to 60.
	Buckets []float64 `yaml:"buckets"`
}

func (v *validator) metrics() {
	between(v, "metrics.methods", v.config.Metrics.Methods, 1, maxMetric)
	const path = "metrics.buckets"
	switch buckets := v.config.Metrics.Buckets; {
	case len(buckets) == 0:
		v.require(path, "at least one is needed", "add one, such as 0.1, or remove the list")
	case len(buckets) > maxBuckets:
		v.badField(path, fmt.Sprint("are more than ", maxBuckets), "leave some out")
	default:
		v.buckets(path, buckets)
	}
}

func (v *validator) buckets(path string, buckets []float64) {
	for i, seconds := range buckets {
		at, written := ItemPath(path, i), fmt.Sprint(seconds)
		switch {
		case v.isBroken(at):
		case !(seconds > 0 && seconds <= maxBucket): // which NaN is not either
			v.badValue(at, written, fmt.Sprint("is not more than 0 and up to ", maxBucket), "write seconds, such as 0.025")
		case i > 0 && seconds <= buckets[i-1] && !v.isBroken(ItemPath(path, i-1)):
			v.badValue(at, written, fmt.Sprint("is not more than the one before, ", buckets[i-1]), "write them in rising order")
		}
	}
}
