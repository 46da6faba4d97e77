package keyring

import (
	"context"
	"sync"
	"time"

	"cicosts/models"
)

type acceptance struct {
	principal models.Principal
	until     time.Time
}

var accepted sync.Map // from a key's text to its acceptance

// check remembers for a second what was accepted.
func (k *Keyring) check(ctx context.Context, text string, describe bool) (models.Principal, error) {
	if a, ok := accepted.Load(text); ok && time.Now().Before(a.(acceptance).until) {
		return a.(acceptance).principal, nil
	}
	p, err := k.checkNow(ctx, text, describe)
	if err == nil {
		accepted.Store(text, acceptance{p, time.Now().Add(time.Second)})
	}
	return p, err
}
