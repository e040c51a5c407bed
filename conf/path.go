package conf

import (
	"regexp"
	"strconv"
	"strings"
)

// plainKey is a key that a path shows without quotes.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// KeyPath returns the path of a key below path, as Error.Field has it; path is
// "" for the keys at the top.
func KeyPath(path, key string) string {
	if !plainKey.MatchString(key) {
		key = quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// ItemPath returns the path of a list entry below path, as Error.Field has it. i
// counts from 0.
func ItemPath(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}

// parent returns the path without its last key or index. A key in quotes may
// hold "." and "[" too: cutting there gives a path that names nothing, and the
// next cut goes on outwards.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}
