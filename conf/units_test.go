package conf

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDurationText(t *testing.T) {
	for text, want := range map[string]struct {
		duration time.Duration
		written  string
	}{
		"0":       {0, "0"},
		"+0":      {0, "0"},
		"0s":      {0, "0"},
		"1ns":     {time.Nanosecond, "1ns"},
		"250ms":   {250 * time.Millisecond, "250ms"},
		"1000ms":  {time.Second, "1s"},
		"1.5s":    {1500 * time.Millisecond, "1.5s"},
		"10s":     {10 * time.Second, "10s"},
		"60s":     {time.Minute, "1m"},
		"10m":     {10 * time.Minute, "10m"},
		"1h":      {time.Hour, "1h"},
		"60m":     {time.Hour, "1h"},
		"1h30m":   {90 * time.Minute, "1h30m"},
		"1h0m10s": {time.Hour + 10*time.Second, "1h0m10s"},
		"20h":     {20 * time.Hour, "20h"},
	} {
		t.Run(text, func(t *testing.T) {
			var d Duration
			require.NoError(t, d.UnmarshalText([]byte(text)))
			require.Equal(t, Duration(want.duration), d)
			require.Equal(t, want.written, d.String())
		})
	}
}

func TestDurationRefusals(t *testing.T) {
	for text, problem := range map[string]string{
		"10":                   "has no unit",
		"1.5":                  "has no unit",
		"-10":                  "has no unit",
		"-5s":                  "is negative",
		"":                     "is not a length of time",
		"s":                    "is not a length of time",
		"-":                    "is not a length of time",
		"1d":                   "is not a length of time",
		"10 s":                 "is not a length of time",
		"10sec":                "is not a length of time",
		"5M":                   "is not a length of time",
		"forever":              "is not a length of time",
		"9999999999999999999h": "is not a length of time",
	} {
		t.Run(text, func(t *testing.T) {
			d := Duration(time.Second)
			err := d.UnmarshalText([]byte(text))
			require.Equal(t, &Error{Value: text, Problem: problem, Hint: durationHint}, err)
			require.Equal(t, Duration(time.Second), d, "the value is kept")
		})
	}
}

func TestSizeText(t *testing.T) {
	for text, want := range map[string]struct {
		size    Size
		written string
	}{
		"0":                    {0, "0"},
		"0B":                   {0, "0"},
		"0MiB":                 {0, "0"},
		"1B":                   {1, "1B"},
		"100B":                 {100, "100B"},
		"007KiB":               {7 << 10, "7KiB"},
		"64KiB":                {64 << 10, "64KiB"},
		"1024KiB":              {1 << 20, "1MiB"},
		"4MiB":                 {4 << 20, "4MiB"},
		"3GiB":                 {3 << 30, "3GiB"},
		"2048GiB":              {2 << 40, "2048GiB"},
		"1KB":                  {1000, "1000B"},
		"4MB":                  {4_000_000, "4000000B"},
		"1GB":                  {1_000_000_000, "1000000000B"},
		"1024KB":               {1_024_000, "1000KiB"},
		"9223372036854775807B": {math.MaxInt64, "9223372036854775807B"},
	} {
		t.Run(text, func(t *testing.T) {
			var s Size
			require.NoError(t, s.UnmarshalText([]byte(text)))
			require.Equal(t, want.size, s)
			require.Equal(t, want.written, s.String())
		})
	}
}

func TestSizeRefusals(t *testing.T) {
	for text, problem := range map[string]string{
		"1":                        "has no unit",
		"4096":                     "has no unit",
		"1.5":                      "has no unit",
		"1.5MiB":                   "is not a whole number",
		".5MiB":                    "is not a size",
		"-1":                       "is negative",
		"-4KiB":                    "is negative",
		"":                         "is not a size",
		"KiB":                      "is not a size",
		"+1KiB":                    "is not a size",
		"4M":                       "has no unit that is known",
		"4mib":                     "has no unit that is known",
		"4 MiB":                    "has no unit that is known",
		"4MiB ":                    "has no unit that is known",
		"1TiB":                     "has no unit that is known",
		"1e6B":                     "has no unit that is known",
		"0x10B":                    "has no unit that is known",
		"9223372036854775808B":     "is too large",
		"9007199254740992KiB":      "is too large",
		"8589934592GiB":            "is too large",
		"99999999999999999999999B": "is too large",
	} {
		t.Run(text, func(t *testing.T) {
			s := Size(5)
			err := s.UnmarshalText([]byte(text))
			require.Equal(t, &Error{Value: text, Problem: problem, Hint: sizeHint}, err)
			require.Equal(t, Size(5), s, "the value is kept")
		})
	}
}

func TestUnitsInJSON(t *testing.T) {
	type both struct {
		D Duration
		S Size
	}
	in := both{Duration(90 * time.Second), 64 << 10}
	text, err := json.Marshal(in)
	require.NoError(t, err)
	require.JSONEq(t, `{"D":"1m30s","S":"64KiB"}`, string(text))
	var out both
	require.NoError(t, json.Unmarshal(text, &out))
	require.Equal(t, in, out)
}
