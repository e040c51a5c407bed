package conf

import (
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	durationHint = `write a number with a unit, such as "250ms", "10s" or "5m"`
	sizeHint     = `write a whole number with a unit, such as "100B", "64KiB" or "4MiB"`
)

// UnmarshalText reads a time span such as "250ms", "1.5s" or "1h30m", or a plain
// 0. Other numbers need a unit, and none may be negative. The error is an
// *Error without a position. Decoders of YAML, JSON and flags use this method.
func (d *Duration) UnmarshalText(text []byte) error {
	written := string(text)
	parsed, err := time.ParseDuration(written)
	problem := ""
	switch {
	case err != nil && isNumber(written):
		problem = "has no unit"
	case err != nil:
		problem = "is not a length of time"
	case parsed < 0:
		problem = "is negative"
	default:
		*d = Duration(parsed)
		return nil
	}
	return &Error{Value: written, Problem: problem, Hint: durationHint}
}

// MarshalText is the reverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns the time span as one would write it: "1h30m", not "1h30m0s".
func (d Duration) String() string {
	if d == 0 {
		return "0"
	}
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// byteUnits are the units of a Size. The binary ones come last, from small to
// large, because String picks the last that fits.
var byteUnits = []struct {
	name  string
	bytes int64
}{
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"B", 1},
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
}

const binaryUnits = 3 // the index in byteUnits of the first binary one

// UnmarshalText reads a whole number of B, KiB, MiB or GiB (powers of 1024), of
// KB, MB or GB (powers of 1000), or a plain 0. Other numbers need a unit, and
// none may be negative. The error is an *Error without a position. Decoders of
// YAML, JSON and flags use this method.
func (s *Size) UnmarshalText(text []byte) error {
	written := string(text)
	bytes, problem := parseSize(written)
	if problem != "" {
		return &Error{Value: written, Problem: problem, Hint: sizeHint}
	}
	*s = Size(bytes)
	return nil
}

func parseSize(written string) (bytes int64, problem string) {
	unit := strings.TrimLeft(written, "0123456789")
	digits := written[:len(written)-len(unit)]
	number, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case strings.HasPrefix(written, "-"):
		return 0, "is negative"
	case digits == "":
		return 0, "is not a size"
	case err != nil:
		return 0, "is too large"
	case number == 0 && unit == "":
		return 0, ""
	case isNumber(written):
		return 0, "has no unit"
	case unit[0] == '.':
		return 0, "is not a whole number"
	}
	for _, known := range byteUnits {
		if known.name != unit {
			continue
		}
		if number > math.MaxInt64/known.bytes {
			return 0, "is too large"
		}
		return number * known.bytes, ""
	}
	return 0, "has no unit that is known"
}

// MarshalText is the reverse of UnmarshalText.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String returns the size in the largest binary unit that makes it a whole
// number.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	text := ""
	for _, unit := range byteUnits[binaryUnits:] {
		if int64(s)%unit.bytes == 0 {
			text = strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return text
}

// isNumber tells whether text is digits, perhaps with a sign and a point: what
// someone writes who forgets the unit.
func isNumber(text string) bool {
	return strings.ContainsAny(text, "0123456789") && strings.Trim(text, "+-.0123456789") == ""
}
