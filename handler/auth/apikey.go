package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

const (
	defaultKeyHeader = "x-api-key"

	// maxKey bounds keys in bytes, so that no call costs more than a hash of as much.
	maxKey = 512

	hashHint = `write what "printf %s KEY | sha256sum" prints`
)

// APIKeys says how calls are known by API keys. One of File and Keys is set.
type APIKeys struct {
	// Header is the key of metadata that has the API key, "" for "x-api-key".
	Header string
	// File is a YAML or JSON file with a list as Keys: maps with "name" and "sha256". It
	// is read again when it changes; Logger, which must be set then, is told.
	File   string
	Logger *slog.Logger
	// Keys are the keys, by their hashes. No name and no hash may be there twice.
	Keys []APIKey
	// Optional lets calls without a key go on, with the identity they have, if any. Those
	// with one that is not known are refused all the same.
	Optional bool
	// Remove keeps the key from the backend.
	Remove bool
}

// APIKey is a key that somebody has been given.
type APIKey struct {
	// Name is who has it.
	Name string `json:"name" yaml:"name"`
	// SHA256 is the SHA-256 of the key in 64 hexadecimal digits. Nothing else protects
	// the key from whoever reads the hash: it must be random, not a word.
	SHA256 string `json:"sha256" yaml:"sha256"`
}

// Keys is a link that knows calls by API keys. Its Guard may be called concurrently.
type Keys struct {
	options APIKeys
	header  string
	file    *watched // nil for a list
	stop    func()

	// names are those of keys, by hash, and replaced as a whole. That the time of a
	// look-up depends on what is found tells nobody anything about a key: it depends on
	// the hash of what was sent, which says nothing about other hashes, and even a whole
	// hash would not give the key away.
	names atomic.Pointer[keyNames]
}

type keyNames map[[sha256.Size]byte]string

// NewAPIKeys returns the link, with the keys that there are now. An error names the file,
// or the key, that cannot be used. Nothing runs before Start.
func NewAPIKeys(o APIKeys) (*Keys, error) {
	header, err := headerKey(o.Header, defaultKeyHeader)
	if err != nil {
		return nil, err
	}
	k := &Keys{options: o, header: header, stop: func() {}}
	switch {
	case (o.File == "") == (len(o.Keys) == 0):
		return nil, errors.New("API keys come from a file or from a list; set one of the two")
	case o.File != "":
		k.file, err = openWatched(o.File, o.Logger, k.take)
	default:
		err = k.replace(o.Keys)
	}
	return k, err
}

// Start begins to watch the file, if the keys are from one. Close must be called then. It
// may be called once.
func (k *Keys) Start() {
	if k.file != nil {
		k.stop = k.file.start()
	}
}

// Close ends the watching of a file. The keys stay in force.
func (k *Keys) Close() { k.stop() }

// take has a file's keys be those in force.
func (k *Keys) take(data []byte) error {
	keys, err := parseKeys(data)
	if err != nil {
		return err
	}
	return k.replace(keys)
}

func (k *Keys) replace(keys []APIKey) error {
	names, err := nameKeys(keys)
	if err != nil {
		return err
	}
	k.names.Store(&names)
	return nil
}

// nameKeys returns the names of keys by their hashes. Errors do not show what is in
// place of a hash: it may be the key.
func nameKeys(keys []APIKey) (keyNames, error) {
	byHash, known := make(keyNames, len(keys)), make(map[string]bool, len(keys))
	for i, key := range keys {
		var hash [sha256.Size]byte
		n, err := hex.Decode(hash[:], []byte(key.SHA256[:min(len(key.SHA256), 2*len(hash))]))
		switch {
		case !hasName(key.Name):
			return nil, fmt.Errorf("key %d: its name is empty, longer than %d bytes, or not plain text", i+1, maxName)
		case err != nil || n != len(hash) || len(key.SHA256) != 2*n:
			return nil, fmt.Errorf("key %d, of %q: sha256 is not 64 hexadecimal digits; %s", i+1, key.Name, hashHint)
		case known[key.Name]:
			return nil, fmt.Errorf("key %d: there is one of %q already; give each key a name of its own", i+1, key.Name)
		case byHash[hash] != "":
			return nil, fmt.Errorf("key %d, of %q: %q has the same key", i+1, key.Name, byHash[hash])
		}
		byHash[hash], known[key.Name] = key.Name, true
	}
	return byHash, nil
}

// Guard is the link's intercept.Guard: it sets the call's identity, of KindAPIKey.
func (k *Keys) Guard(c *intercept.Call) error {
	key, count := credential(c, k.header)
	switch {
	case count == 0 && k.options.Optional:
		return nil
	case count == 0:
		return unauthenticated("the call has no API key; send one as metadata %q", k.header)
	case count > 1:
		return unauthenticated("the call has several values of %q; send one API key", k.header)
	}
	name, known := k.name(key)
	if !known {
		return unauthenticated("the API key in %q is not known", k.header)
	}
	c.SetIdentity(intercept.Identity{Kind: KindAPIKey, Name: name})
	if !k.options.Remove {
		return nil
	}
	return c.Header().Remove(k.header)
}

func (k *Keys) name(key string) (name string, known bool) {
	if len(key) > maxKey {
		return "", false
	}
	var buffer [maxKey]byte // which stays on the stack
	hash := sha256.Sum256(buffer[:copy(buffer[:], key)])
	name, known = (*k.names.Load())[hash]
	return name, known
}
