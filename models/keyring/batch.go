package keyring

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
)

// A batch is a set of hashes that one statement looks up, and the answer. Requests join it until it is sent.
type batch struct {
	hashes []keytext.Hash
	newest time.Time // when the last request joined

	done  chan struct{} // closed when found and err are set
	found []models.KeyState
	err   error
}

// batcher sends one batch at a time, and a second one when the first is slow.
type batcher struct {
	cfg *Config

	mu       sync.Mutex
	waiting  int      // requests in Verify
	queue    []*batch // not sent; requests join the last one
	inFlight int
	sentAt   time.Time // when the newest batch in flight was sent
}

// maxInFlight is how many batches may be out: more would only burden a database that is slow already.
const maxInFlight = 2

func (b *batcher) init(cfg *Config) { b.cfg = cfg }

// lookup returns the state of the key with one of these hashes, models.ErrKeyUnknown or ErrUnavailable, or the error of ctx.
func (b *batcher) lookup(ctx context.Context, hashes []keytext.Hash) (models.KeyState, error) {
	now := time.Now()
	bt := b.join(hashes, now)
	if bt == nil {
		return models.KeyState{}, fmt.Errorf("%w: too many requests are waiting", ErrUnavailable)
	}
	defer b.leave()
	late := time.NewTimer(b.cfg.Timeout)
	defer late.Stop()
	select {
	case <-bt.done:
	case <-late.C:
		return models.KeyState{}, fmt.Errorf("%w within %v", ErrUnavailable, b.cfg.Timeout)
	case <-ctx.Done():
		return models.KeyState{}, ctx.Err()
	}
	if bt.err != nil {
		return models.KeyState{}, fmt.Errorf("%w: %w", ErrUnavailable, bt.err)
	}
	for _, h := range hashes {
		if state, ok := bt.state(h); ok {
			return state, nil
		}
	}
	return models.KeyState{}, models.ErrKeyUnknown
}

// join adds the hashes to the batch that is sent next, and sends it if it may go.
func (b *batcher) join(hashes []keytext.Hash, now time.Time) *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting >= b.cfg.MaxWaiting {
		return nil
	}
	b.waiting++
	var bt *batch
	if n := len(b.queue); n > 0 && len(b.queue[n-1].hashes)+len(hashes) <= b.cfg.MaxBatch {
		bt = b.queue[n-1]
	} else {
		bt = &batch{done: make(chan struct{}), hashes: make([]keytext.Hash, 0, 64)}
		b.queue = append(b.queue, bt)
	}
	bt.hashes, bt.newest = append(bt.hashes, hashes...), now
	b.sendNext(now)
	return bt
}

func (b *batcher) leave() {
	b.mu.Lock()
	b.waiting--
	b.mu.Unlock()
}

// sendNext sends the oldest batch of the queue when nothing is out, or when what is out is slow. Call with mu held.
func (b *batcher) sendNext(now time.Time) {
	if len(b.queue) == 0 || b.inFlight == maxInFlight || b.inFlight > 0 && now.Sub(b.sentAt) < b.cfg.SecondAfter {
		return
	}
	bt := b.queue[0]
	b.queue = slices.Delete(b.queue, 0, 1)
	b.inFlight++
	b.sentAt = now
	go b.run(bt)
}

// run answers a batch and sees to it that the next one goes, when this one is back or when it is slow.
func (b *batcher) run(bt *batch) {
	slow := time.AfterFunc(b.cfg.SecondAfter, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.sendNext(time.Now())
	})
	b.ask(bt)
	slow.Stop()
	close(bt.done)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight--
	b.sendNext(time.Now())
}

// ask sends the statement, and once more when it failed or took too long: a lost connection is not an outage. The second
// answer is of a later snapshot still.
func (b *batcher) ask(bt *batch) {
	slices.SortFunc(bt.hashes, compareHashes)
	bt.hashes = slices.Compact(bt.hashes)
	ctx, cancel := context.WithDeadline(context.Background(), bt.newest.Add(b.cfg.Timeout))
	defer cancel()
	if ctx.Err() != nil { // everybody has left
		bt.err = ctx.Err()
		return
	}
	attempt, cancelAttempt := context.WithTimeout(ctx, b.cfg.AttemptTimeout)
	bt.found, bt.err = b.cfg.Source.KeysByHash(attempt, bt.hashes, nil)
	cancelAttempt()
	if bt.err != nil && ctx.Err() == nil {
		bt.found, bt.err = b.cfg.Source.KeysByHash(ctx, bt.hashes, nil)
	}
	slices.SortFunc(bt.found, func(x, y models.KeyState) int { return compareHashes(x.Hash, y.Hash) })
}

// state finds the answer for one hash.
func (bt *batch) state(h keytext.Hash) (models.KeyState, bool) {
	i, ok := slices.BinarySearchFunc(bt.found, h, func(s models.KeyState, h keytext.Hash) int { return compareHashes(s.Hash, h) })
	if !ok {
		return models.KeyState{}, false
	}
	return bt.found[i], true
}

func compareHashes(a, b keytext.Hash) int { return bytes.Compare(a[:], b[:]) }
