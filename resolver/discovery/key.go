package discovery

import (
	"context"
	"fmt"

	"github.com/kitexproxy/kitexproxy/conf"
)

// Key is one key of etcd, with a text that several proxies go by. Its methods may be
// called concurrently.
type Key struct{ source *etcdSource }

// OpenKey returns a key. Nothing is asked yet. Close must be called in the end.
func OpenKey(cfg *conf.Etcd, key string) *Key {
	return &Key{&etcdSource{cfg: cfg, prefix: key}}
}

// Get returns what the key holds. That there is no such key is an error.
func (k *Key) Get(ctx context.Context) ([]byte, error) {
	client, err := k.source.connect(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := client.Get(ctx, k.source.prefix)
	if err != nil {
		return nil, err
	}
	if len(answer.Kvs) == 0 {
		return nil, fmt.Errorf("etcd has no key %q", k.source.prefix)
	}
	return answer.Kvs[0].Value, nil
}

// Follow calls changed when it begins and whenever the key may hold something else,
// until ctx ends.
func (k *Key) Follow(ctx context.Context, changed func()) { k.source.follow(ctx, changed) }

// Close ends the connection to etcd, once nothing else is asked.
func (k *Key) Close() error { return k.source.close() }
