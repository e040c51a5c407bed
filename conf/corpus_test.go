package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// corpus returns the files in testdata that end in suffix, by base name.
func corpus(t testing.TB, suffix string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*" + suffix)
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	files := map[string][]byte{}
	for _, path := range paths {
		files[filepath.Base(path)], err = os.ReadFile(path)
		require.NoError(t, err)
	}
	return files
}

// wanted returns what the leading "# want: " lines of a bad file say.
func wanted(content []byte) string {
	var lines []string
	for line := range strings.Lines(string(content)) {
		message, ok := strings.CutPrefix(line, "# want: ")
		if !ok {
			break
		}
		lines = append(lines, strings.TrimSuffix(message, "\n"))
	}
	return strings.Join(lines, "\n")
}

// withoutSource returns c as if it had been built in Go, to compare.
func withoutSource(c *Config) *Config {
	bare := *c
	bare.source = nil
	return &bare
}

func TestBadFilesGiveTheWantedMessages(t *testing.T) {
	for name, content := range corpus(t, ".bad.yaml") {
		t.Run(strings.TrimSuffix(name, ".bad.yaml"), func(t *testing.T) {
			c, err := Parse(name, content)
			require.Nil(t, c)
			require.EqualError(t, err, wanted(content))
		})
	}
}

func TestGoodFilesSurviveARoundTrip(t *testing.T) {
	for name, content := range corpus(t, ".good.yaml") {
		t.Run(strings.TrimSuffix(name, ".good.yaml"), func(t *testing.T) {
			first, err := Parse(name, content)
			require.NoError(t, err)
			require.NoError(t, first.Validate())

			written, err := yaml.Marshal(first)
			require.NoError(t, err)
			second, err := Parse("written", written)
			require.NoError(t, err, "%s", written)
			require.Equal(t, withoutSource(first), withoutSource(second))
		})
	}
}
