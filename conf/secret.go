package conf

import "reflect"

// Secret is text that no message and no Change shows.
type Secret string

// hiddenSecret stands for a Secret in a Change.
const hiddenSecret = "***"

// String hides the secret from whoever prints it; convert it to a string to use it.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hiddenSecret
}

// isSecret tells whether text where a t is wanted may be a secret: a key, say, in place
// of its name and its hash, or of a list of those.
func isSecret(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Map:
		return isSecret(t.Elem())
	default:
		return t == reflect.TypeFor[Secret]() || t == reflect.TypeFor[APIKey]()
	}
}
