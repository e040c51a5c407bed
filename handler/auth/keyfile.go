package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// The YAML parser recurses once for each level, and keeps some 300 bytes for each mark.
// Levels need marks of their own: bounds on how many there are in a line, and on
// brackets that are open, bound both.
const (
	maxKeyLine  = 512     // bytes
	maxKeyMarks = 200_000 // of a file
	maxBrackets = 2       // one in another
)

var (
	errKeyList = errors.New("it is not a list of keys; write each on a line of its own: " +
		`- {name: alice, sha256: "64 hexadecimal digits"}`)
	errNotText = errors.New("it is not UTF-8 text; save it in UTF-8")
)

// parseKeys returns the keys that a file lists, at least one, in YAML or in JSON. Errors
// give the line, but nothing of what it has: it may be a key.
func parseKeys(data []byte) ([]APIKey, error) {
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff"))) // byte order mark
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, errNotText
	}
	var keys []APIKey
	var err error
	if bytes.HasPrefix(data, []byte("[")) && json.Valid(data) {
		err = decodeJSON(data, &keys)
	} else {
		err = decodeYAML(data, &keys)
	}
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errKeyList
	}
	return keys, nil
}

func decodeJSON(data []byte, keys *[]APIKey) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(keys) != nil {
		return errKeyList
	}
	return nil
}

func decodeYAML(data []byte, keys *[]APIKey) (err error) {
	if err := checkShape(data); err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil { // which no file should make of the parser
			err = errKeyList
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := d.Decode(keys); err != nil {
		return keyListError(err)
	}
	if err := d.Decode(new([]APIKey)); !errors.Is(err, io.EOF) {
		return errors.New("there is a second document in it; keep one list")
	}
	return nil
}

// checkShape refuses what would take the parser long, or deep. What it counts may be
// inside quotes, where names have no use for it.
func checkShape(data []byte) error {
	marks, open, number := 0, 0, 0
	for line := range bytes.Lines(data) {
		number++
		if len(line) > maxKeyLine {
			return fmt.Errorf("line %d is longer than %d bytes; write each key on a line of its own", number, maxKeyLine)
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open--
			case '&', '*', '!', '|', '>', '%':
				return fmt.Errorf("line %d has a %q, which no list of keys needs; remove it", number, c)
			case '-', ':', ',', '?', '"', '\'', '#':
			default:
				continue
			}
			if marks++; marks > maxKeyMarks || open > maxBrackets {
				return errKeyList
			}
		}
	}
	return nil
}

// keyListError says where a file is wrong.
func keyListError(err error) error {
	if at, ok := errors.AsType[yaml.Error](err); ok && at.GetToken() != nil {
		return fmt.Errorf("line %d: %w", at.GetToken().Position.Line, errKeyList)
	}
	return errKeyList
}
