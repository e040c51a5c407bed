package conf

// AccessLog has a line for each call, written when the call has ended. Calls never
// wait for it.
type AccessLog struct {
	// Output is OutputStderr (the default), OutputStdout or the path of a file, which
	// lines are added to.
	Output string `yaml:"output"`
	// Format is json or text. Default json.
	Format string `yaml:"format"`
	// SamplePercent is how many of the calls get a line, 0 to 100. Default 100.
	SamplePercent float64 `yaml:"sample_percent"`
	// Errors gives calls a line that have not ended with OK, whatever SamplePercent is.
	// Default true.
	Errors bool `yaml:"errors"`
	// Metadata are the keys of the call's metadata that a line has, lower-case if they
	// come from a file. Default none.
	Metadata []string `yaml:"metadata,omitempty"`
	// Redact are the keys whose values become "***" in lines, besides those that end in
	// "-bin"; lower-case if they come from a file. Default: authorization, cookie,
	// proxy-authorization and x-api-key.
	Redact []string `yaml:"redact"`
	// Buffer is how many lines may wait to be written, 1 to 1000000. When there are more,
	// new ones are dropped and counted. Default 4096.
	Buffer int `yaml:"buffer"`
}

// The values of AccessLog.Output that are no file.
const (
	// OutputStderr is standard error, where the proxy's own log is.
	OutputStderr = "stderr"
	// OutputStdout is standard output.
	OutputStdout = "stdout"
)

var outputs = []string{OutputStderr, OutputStdout}

func (v *validator) accessLog() {
	a := v.config.AccessLog
	if a == nil {
		v.notNull("access_log")
		return
	}
	v.output("access_log.output", a.Output)
	v.oneOf("access_log.format", a.Format, []string{"json", "text"})
	between(v, "access_log.sample_percent", a.SamplePercent, 0, 100)
	v.readableKeys("access_log.metadata", a.Metadata)
	v.readableKeys("access_log.redact", a.Redact)
	between(v, "access_log.buffer", a.Buffer, 1, maxLogBuffer)
}

// output checks where lines go. A file has any name but one that is nearly another
// output's.
func (v *validator) output(path, output string) {
	const hint = "write stderr, stdout or the path of a file"
	v.notEmpty(path, output, hint)
	if output == OutputStderr || output == OutputStdout || v.isBroken(path) {
		return
	}
	if near := nearest(output, outputs); near != "" {
		v.badValue(path, output, "is not "+near, "write "+near+", or another name for a file")
	}
}
