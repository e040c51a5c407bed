package auth

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/metadata"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// The kinds of identity that this package finds out; see intercept.Identity.
const (
	KindAPIKey = "api-key"
	KindJWT    = "jwt"
	KindMTLS   = "mtls"
)

// maxName bounds the name of an identity in bytes: what SPIFFE allows an ID to have
// (https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md, section 2.3).
const maxName = 2048

// maxShown bounds what messages show of something, in bytes.
const maxShown = 256

// credential returns the value of key among what the client has sent, and how many
// there are.
func credential(c *intercept.Call, key string) (value string, count int) {
	for _, f := range c.Request().Metadata {
		if f.Key == key {
			value = f.Value
			count++
		}
	}
	return value, count
}

// headerKey returns the key of metadata that credentials are read from: what is
// given, in lower case, or else what is usual.
func headerKey(given, usual string) (string, error) {
	if given == "" {
		return usual, nil
	}
	key := strings.ToLower(given)
	if err := checkKey(key); err != nil {
		return "", fmt.Errorf("header: %w", err)
	}
	if strings.HasSuffix(key, "-bin") {
		return "", fmt.Errorf("header: %q has bytes as values, by its end; use a key for text", key)
	}
	return key, nil
}

// checkKey reports what is wrong with a key for metadata.
func checkKey(key string) error { return new(metadata.Metadata).Set(key) }

// hasName reports whether an identity may have this name. Names get into logs, and
// into the texts of statuses.
func hasName(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && !strings.ContainsFunc(name, isHidden)
}

func isHidden(r rune) bool { return !unicode.IsPrint(r) }

// quote returns what somebody has sent as messages show it.
func quote(s string) string { return strconv.Quote(s[:min(len(s), maxShown)]) }

// unauthenticated is how a call ends that has no credentials, or none that are valid.
// The text helps those who have some, and must not tell others anything new.
func unauthenticated(format string, args ...any) error {
	return intercept.Refuse(stream.NoCredentials, stream.Unauthenticated, fmt.Sprintf(format, args...))
}
