package accesslog

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// The values of Options.Output that are no file.
const (
	Stderr = "stderr"
	Stdout = "stdout"
)

// The values of Options.Format.
const (
	JSON = "json"
	Text = "text"
)

// DefaultBuffer is the default of Options.Buffer.
const DefaultBuffer = 4096

// Options is what a Log works with.
type Options struct {
	// Output is Stderr (the default), Stdout or the path of a file, which lines are
	// added to. A new one may be read by its owner and group.
	Output string
	// Format is JSON (the default) or Text, as log/slog has them.
	Format string
	// SamplePercent is how many of the calls get a line, 0 to 100.
	SamplePercent float64
	// Errors gives calls a line that have not ended with OK, whatever SamplePercent is.
	Errors bool
	// Metadata are keys of the request's metadata, as the client has sent it, that a line
	// has.
	Metadata []string
	// Redact are the keys whose values become "***". nil is DefaultRedact. Values of keys
	// that end in "-bin" always do.
	Redact []string
	// Buffer is how many lines may wait to be written. Default DefaultBuffer.
	Buffer int
	// Logger is told when lines cannot be written, and when they can be again. Default
	// slog.Default().
	Logger *slog.Logger
}

// DefaultRedact returns the keys of metadata that carry secrets as a rule.
func DefaultRedact() []string {
	return []string{"authorization", "cookie", "proxy-authorization", "x-api-key"}
}

func (o *Options) setDefaults() {
	if o.Output == "" {
		o.Output = Stderr
	}
	if o.Format == "" {
		o.Format = JSON
	}
	if o.Redact == nil {
		o.Redact = DefaultRedact()
	}
	if o.Buffer == 0 {
		o.Buffer = DefaultBuffer
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

func (o *Options) validate() error {
	switch {
	case o.Format != JSON && o.Format != Text:
		return fmt.Errorf("format %q: write %s or %s", o.Format, JSON, Text)
	case !(o.SamplePercent >= 0 && o.SamplePercent <= 100): // which NaN is not either
		return fmt.Errorf("sample percent %v: write 0 to 100", o.SamplePercent)
	case o.Buffer < 0:
		return fmt.Errorf("buffer %d: write how many lines may wait", o.Buffer)
	case slices.Contains(o.Metadata, ""):
		return errors.New("metadata: a key is empty")
	}
	for _, name := range o.Metadata {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("metadata: %q is no key of metadata: write letters, digits, dots, - and _", name)
		}
	}
	return nil
}

// key is a key of metadata that lines have.
type key struct {
	name   string // lower-case
	secret bool   // its values are redacted
}

// keys returns those of Metadata, each once.
func (o *Options) keys() []key {
	var keys []key
	for _, name := range o.Metadata {
		name = strings.ToLower(name)
		if slices.ContainsFunc(keys, func(k key) bool { return k.name == name }) {
			continue
		}
		keys = append(keys, key{name: name, secret: o.isSecret(name)})
	}
	return keys
}

// isSecret reports whether the values of a key, which is lower-case, are redacted.
func (o *Options) isSecret(name string) bool {
	return strings.HasSuffix(name, "-bin") ||
		slices.ContainsFunc(o.Redact, func(s string) bool { return strings.ToLower(s) == name })
}
