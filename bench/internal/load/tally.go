package load

import "slices"

// maxSamples is how many different messages are kept: enough to see what goes wrong.
const maxSamples = 3

// tally counts errors. Its zero value is ready to use.
type tally struct {
	count   int
	samples []string
}

func (t *tally) add(err error) {
	t.count++
	t.keep(err.Error())
}

func (t *tally) merge(other tally) {
	t.count += other.count
	for _, s := range other.samples {
		t.keep(s)
	}
}

func (t *tally) keep(message string) {
	if len(t.samples) < maxSamples && !slices.Contains(t.samples, message) {
		t.samples = append(t.samples, message)
	}
}
