package conf

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNearest(t *testing.T) {
	words := []string{"listeners", "clusters", "routes", "default", "timeouts", "limits", "log", "warn", "x", "echo", "éclair"}
	for word, want := range map[string]string{
		"listners":                       "listeners",
		"LISTENERS":                      "listeners",
		"cluster":                        "clusters",
		"custers":                        "clusters",
		"cluserts":                       "clusters",
		"rotues":                         "routes",
		"deafult":                        "default",
		"timeout":                        "timeouts",
		"time":                           "timeouts", // the beginning of it
		"warning":                        "warn",     // begins with it
		"ehco":                           "echo",     // one swap
		"eco":                            "echo",
		"eclair":                         "éclair",
		"logs":                           "log",
		"lgo":                            "log",
		"ho":                             "",
		"y":                              "",
		"":                               "",
		"admin":                          "",
		"somethingelse":                  "",
		"roots":                          "",
		"éé":                             "",
		"logging_directory":              "",
		strings.Repeat("listeners", 1e5): "",
	} {
		require.Equal(t, want, nearest(word, words), "%.20s", word)
	}
	require.Empty(t, nearest("echo", nil))
	require.Equal(t, "ab1", nearest("ab", []string{"abcd", "ab1", "ab2"}), "the first of the nearest")
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"abc", "abd", 1},
		{"abc", "ab", 1},
		{"abc", "acb", 1},
		{"abcd", "badc", 2},
		{"kitten", "sitting", 3},
		{"ca", "abc", 3},
	} {
		require.Equal(t, c.want, editDistance(c.a, c.b), "%s to %s", c.a, c.b)
	}
}

func TestEnumerateStopsAfterAFew(t *testing.T) {
	require.Equal(t, `a, "b c"`, enumerate([]string{"a", "b c"}))
	require.Equal(t, strings.Repeat("a, ", 16)+"...", enumerate(strings.Split(strings.Repeat("a", 17), "")))
}
