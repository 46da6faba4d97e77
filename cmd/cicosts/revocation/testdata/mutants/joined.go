package store

import (
	"context"
	"sync"

	"cicosts/models"
	"cicosts/models/keytext"
)

// asked is a lookup under way.
type asked struct {
	done  chan struct{}
	found []models.KeyState
	err   error
}

var (
	mu       sync.Mutex
	underWay = map[keytext.Hash]*asked{}
)

// KeysByHash shares the answers to what has been asked already.
func (s *Store) KeysByHash(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error) {
	mine := &asked{done: make(chan struct{})}
	others := map[keytext.Hash]*asked{}
	var mineHashes []keytext.Hash
	mu.Lock()
	for _, h := range hashes {
		if other, ok := underWay[h]; ok {
			others[h] = other
		} else {
			mineHashes, underWay[h] = append(mineHashes, h), mine
		}
	}
	mu.Unlock()
	if len(mineHashes) > 0 {
		mine.found, mine.err = s.keysByHash(ctx, mineHashes, nil)
	}
	mu.Lock()
	for _, h := range mineHashes {
		delete(underWay, h)
	}
	mu.Unlock()
	close(mine.done)
	found = append(found, mine.found...)
	for h, other := range others {
		<-other.done
		if other.err != nil {
			return found, other.err
		}
		for i := range other.found {
			if other.found[i].Hash == h {
				found = append(found, other.found[i])
			}
		}
	}
	return found, mine.err
}
