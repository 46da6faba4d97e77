package keyring

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
)

// A batch is a set of hashes that one statement looks up, and the answer. Requests join it until it is sent.
type batch struct {
	hashes   []keytext.Hash
	requests int
	describe bool      // one of them asks for descriptions
	deadline time.Time // of its first request; all are answered by then
	late     *time.Timer
	answered bool // guarded by batcher.mu

	done  chan struct{} // closed when found and err are set, which are not written to again
	found []models.KeyState
	err   error
}

// batcher sends one batch at a time, and a second one when the first is slow.
type batcher struct {
	cfg *Config

	mu       sync.Mutex
	waiting  int      // requests that are not answered
	queue    []*batch // not sent; requests join the last one
	inFlight int      // batches out, or about to go
	slow     int      // of them, those out for SecondAfter or longer
	crowded  bool     // the newest batch had more than one request
}

// maxInFlight is how many batches may be out: more would only burden a database that is slow already.
const maxInFlight = 2

func (b *batcher) init(cfg *Config) { b.cfg = cfg }

// lookup returns the state of the key with one of these hashes, models.ErrKeyUnknown or ErrUnavailable, or the error of ctx.
// Who sends a batch sees it through, even when its own ctx ends.
func (b *batcher) lookup(ctx context.Context, hashes []keytext.Hash, describe bool) (models.KeyState, error) {
	bt, first := b.join(hashes, describe)
	if bt == nil {
		return models.KeyState{}, fmt.Errorf("%w: too many requests are waiting", ErrUnavailable)
	}
	if first {
		b.send()
	}
	select {
	case <-bt.done:
	case <-ctx.Done():
		return models.KeyState{}, ctx.Err()
	}
	if bt.err != nil {
		return models.KeyState{}, bt.err
	}
	for _, h := range hashes {
		if state, ok := bt.state(h); ok {
			return state, nil
		}
	}
	return models.KeyState{}, models.ErrKeyUnknown
}

// join adds the hashes to the batch that is sent next. Where that may go at once, the caller is to send it: waking somebody
// else for it would cost a request that is alone more than all the rest of the way.
func (b *batcher) join(hashes []keytext.Hash, describe bool) (bt *batch, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting >= b.cfg.MaxWaiting {
		return nil, false
	}
	bt = b.last(len(hashes))
	bt.hashes = append(bt.hashes, hashes...)
	bt.requests++
	bt.describe = bt.describe || describe
	b.waiting++
	return bt, b.mayGo()
}

// last returns the batch that requests join, a new one where the one before has no room or is too old.
func (b *batcher) last(room int) *batch {
	now := time.Now()
	if n := len(b.queue); n > 0 {
		bt := b.queue[n-1]
		// All are answered by the deadline of the first, so the last to join must have most of its time left too. A shorter
		// time to join would make more batches than a slow database can answer, two at a time.
		if len(bt.hashes)+room <= b.cfg.MaxBatch && bt.deadline.Sub(now) > b.cfg.Timeout*3/5 {
			return bt
		}
	}
	bt := &batch{done: make(chan struct{}), hashes: make([]keytext.Hash, 0, 64), deadline: now.Add(b.cfg.Timeout)}
	bt.late = time.AfterFunc(b.cfg.Timeout, func() { b.answer(bt, nil, fmt.Errorf("no answer within %v", b.cfg.Timeout)) })
	b.queue = append(b.queue, bt)
	return bt
}

// mayGo reports whether a batch of the queue may go, because nothing is out or because what is out is slow, and counts it
// as out. Call with mu held.
func (b *batcher) mayGo() bool {
	if len(b.queue) == 0 || b.inFlight == maxInFlight || b.inFlight > b.slow {
		return false
	}
	b.inFlight++
	return true
}

// goNext sends the next batch if it may go. Call with mu held.
func (b *batcher) goNext() {
	if b.mayGo() {
		go b.send()
	}
}

// send sends the oldest batch, and answers it. In a crowd it first lets others run: those who have arrived join, and those
// who were just answered go on. So batches fill up as far as processors are the bottleneck, and nobody waits for a clock.
func (b *batcher) send() {
	b.mu.Lock()
	if b.crowded {
		b.mu.Unlock()
		runtime.Gosched()
		b.mu.Lock()
	}
	if len(b.queue) == 0 { // the time of those who waited is up
		b.inFlight--
		b.mu.Unlock()
		return
	}
	bt := b.queue[0]
	b.queue = slices.Delete(b.queue, 0, 1) // nobody joins it any more
	b.crowded = bt.requests > 1
	b.mu.Unlock()

	var slow, back bool // guarded by mu
	timer := time.AfterFunc(b.cfg.SecondAfter, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !back {
			slow = true
			b.slow++
			b.goNext()
		}
	})
	found, err := b.ask(bt)
	b.answer(bt, found, err)
	timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	back = true
	b.inFlight--
	if slow {
		b.slow--
	}
	b.goNext()
}

// ask sends the statement, and once more on another connection when it failed or has had no answer for HedgeAfter: a lost
// connection or a frozen backend is no outage. The first good answer counts; both are of snapshots taken after the batch was
// closed.
func (b *batcher) ask(bt *batch) ([]models.KeyState, error) {
	slices.SortFunc(bt.hashes, compareHashes)
	bt.hashes = slices.Compact(bt.hashes)
	ctx, cancel := context.WithDeadline(context.Background(), bt.deadline)
	defer cancel()
	again := make(chan found, 1)
	hedge := time.AfterFunc(b.cfg.HedgeAfter, func() {
		// With a time of its own: to cut off what a slow database is about to answer would cost its connection.
		own, cancelOwn := context.WithTimeout(context.Background(), b.cfg.Timeout)
		defer cancelOwn()
		second := b.attempt(own, bt)
		again <- second
		if second.err == nil {
			cancel() // the first
		}
	})
	first := b.attempt(ctx, bt)
	if first.err == nil {
		hedge.Stop()
		return first.keys, nil
	}
	if hedge.Stop() {
		second := b.attempt(ctx, bt)
		return second.keys, second.err
	}
	select {
	case second := <-again:
		return second.keys, second.err
	case <-ctx.Done(): // time is up, or the second has just answered
		select {
		case second := <-again:
			return second.keys, second.err
		default:
			return nil, first.err
		}
	}
}

// found is what came of a statement: the keys ordered by hash.
type found struct {
	keys []models.KeyState
	err  error
}

// attempt sends the statement once, if it is not too late. A panic of the source is an error: it may come up where no
// request is there to be told, and would leave its batch out for good.
func (b *batcher) attempt(ctx context.Context, bt *batch) (f found) {
	if err := ctx.Err(); err != nil { // all have their answer
		return found{nil, err}
	}
	defer func() {
		if r := recover(); r != nil {
			f = found{err: fmt.Errorf("panic: %v\n%s", r, debug.Stack())}
		}
	}()
	keys, err := b.cfg.Source.KeysByHash(ctx, bt.hashes, bt.describe, make([]models.KeyState, 0, len(bt.hashes)))
	slices.SortFunc(keys, func(x, y models.KeyState) int { return compareHashes(x.Hash, y.Hash) })
	return found{keys, err}
}

// answer wakes the requests of a batch, unless that has been done.
func (b *batcher) answer(bt *batch, found []models.KeyState, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bt.answered {
		return
	}
	bt.answered = true
	bt.late.Stop()
	if i := slices.Index(b.queue, bt); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	b.waiting -= bt.requests
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	bt.found, bt.err = found, err
	close(bt.done)
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
