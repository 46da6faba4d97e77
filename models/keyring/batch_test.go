package keyring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
)

// While nobody knows, everybody is told so in time, whenever they came, and nobody much too early.
func TestUnknownIsAnsweredInTime(t *testing.T) {
	for name, hang := range map[string]func(ctx context.Context) error{
		"statements hang":      func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"statements fail":      func(context.Context) error { return errors.New("connection refused") },
		"statements fail late": func(ctx context.Context) error { time.Sleep(150 * time.Millisecond); return errors.New("reset") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out atomic.Int64
				k := New(Config{Source: sourceFunc(func(ctx context.Context, _ []keytext.Hash, _ bool, _ []models.KeyState) ([]models.KeyState, error) {
					defer out.Add(-1)
					if n := out.Add(1); n > 2*maxInFlight { // each of them sent once more
						t.Errorf("%d statements at once", n)
					}
					return nil, hang(ctx)
				}), Hashers: []*keytext.Hasher{hasher}, MaxBatch: 50, MaxWaiting: 1000})
				text := keytext.Mint(keytext.Live).Reveal()
				var wg sync.WaitGroup
				for range 1000 {
					for range 3 { // 1,500 want to wait, more than may
						wg.Go(func() {
							start := time.Now()
							_, err := k.Verify(t.Context(), text)
							if took := time.Since(start); !errors.Is(err, ErrUnavailable) || took > 500*time.Millisecond {
								t.Errorf("%v after %v", err, took)
							} else if name == "statements hang" && took > 0 && took < 300*time.Millisecond {
								t.Errorf("given up after %v", took)
							}
						})
					}
					time.Sleep(time.Millisecond)
				}
				wg.Wait()
				time.Sleep(time.Second)
				k.batches.mustBeIdle(t)
			})
		})
	}
}

type sourceFunc func(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error)

func (f sourceFunc) KeysByHash(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	return f(ctx, hashes, describe, found)
}

// mustBeIdle fails the test when something is left behind.
func (b *batcher) mustBeIdle(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting != 0 || b.inFlight != 0 || b.slow != 0 || len(b.queue) != 0 {
		t.Errorf("left behind: %d waiting, %d in flight, %d slow, %d queued", b.waiting, b.inFlight, b.slow, len(b.queue))
	}
}

// Who comes shortly before a freeze ends is not refused with those who came when it began.
func TestFreezeThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		text, _ := d.add()
		thaw := time.Now().Add(700 * time.Millisecond)
		d.delay = func(int) time.Duration { return max(time.Until(thaw), time.Millisecond) }
		k := newKeyring(d)
		var wg sync.WaitGroup
		for i := range 700 {
			wg.Go(func() {
				_, err := k.Verify(t.Context(), text)
				if i > 401 && err != nil {
					t.Errorf("%d ms before the end: %v", 700-i, err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
	})
}

// A database that takes longer than the pause before a statement is sent again is slow, not away: everybody is answered, and
// no statement is cut off, which would cost its connection.
func TestSlowDatabaseAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cutOff, out, most atomic.Int64
		d := newDatabase()
		text, _ := d.add()
		k := New(Config{Source: sourceFunc(func(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
			most.Store(max(most.Load(), out.Add(1)))
			defer out.Add(-1)
			select {
			case <-time.After(220 * time.Millisecond):
				return d.KeysByHash(ctx, hashes, describe, found)
			case <-ctx.Done():
				cutOff.Add(1)
				return nil, ctx.Err()
			}
		}), Hashers: []*keytext.Hasher{hasher}})
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				start := time.Now()
				if _, err := k.Verify(t.Context(), text); err != nil || time.Since(start) > 500*time.Millisecond {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		wg.Wait()
		time.Sleep(time.Second)
		if cutOff.Load() != 0 || most.Load() > 6 { // the store has six connections for this
			t.Errorf("%d statements cut off, up to %d at once", cutOff.Load(), most.Load())
		}
		k.batches.mustBeIdle(t)
	})
}

// Beside a batch that is stuck the others go at full speed.
func TestFrozenBatchSlowsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(n int) time.Duration {
			if n == 0 {
				return time.Hour
			}
			return time.Millisecond
		}
		text, _ := d.add()
		k := newKeyring(d)
		go k.Verify(t.Context(), text)
		time.Sleep(20 * time.Millisecond)
		start := time.Now()
		for range 100 {
			if _, err := k.Verify(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("100 lookups of 1 ms took %v", took)
		}
		time.Sleep(time.Second)
		k.batches.mustBeIdle(t)
	})
}

// A statement that returns just when it becomes slow is counted as one of both, not as both.
func TestReturnAtTheMomentOfBeingSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(int) time.Duration { return 20 * time.Millisecond }
		text, _ := d.add()
		k := newKeyring(d)
		for range 500 {
			for i, err := range verifyAll(t, k, 3, func(int) string { return text }) {
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
			}
			synctest.Wait()
			k.batches.mustBeIdle(t)
		}
	})
}

// Every caller gets the answer to its own hash, from a snapshot not older than its question, whatever the batches.
func TestEachAnswerIsOnesOwn(t *testing.T) {
	const callers, rounds = 64, 300
	var asked, statements atomic.Int64
	var failed sync.Map
	source := sourceFunc(func(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
		now := models.Instant(asked.Load()) // the snapshot
		n := statements.Add(1)
		if n%7 == 0 {
			time.Sleep(time.Duration(n%5) * time.Millisecond) // sometimes slow, so that two are out
		}
		if n%31 == 0 {
			if _, again := failed.LoadOrStore(ctx, true); !again { // the batch has one context
				return found, errors.New("connection reset")
			}
		}
		for i := range hashes {
			h := hashes[len(hashes)-1-i] // in another order
			if h[0]%3 != 0 {
				found = append(found, models.KeyState{Hash: h, ID: idOf(h), Now: now})
			}
		}
		return found, nil
	})
	k := New(Config{
		Source: source, SecondAfter: time.Millisecond, MaxBatch: 40,
		Timeout: 20 * time.Second, HedgeAfter: 10 * time.Second, // patient, as the machine may be busy
	})
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for r := range rounds {
				hash := keytext.Hash{byte(r), byte(c), byte(r >> 8)}
				if r%4 == 0 {
					hash[1] = 255 // one that all ask for
				}
				arrived := models.Instant(asked.Add(1))
				state, err := k.batches.lookup(t.Context(), []keytext.Hash{{255, 255}, hash}, r%3 == 0)
				switch {
				case errors.Is(err, ErrUnavailable):
					t.Errorf("two statements in a row failed: %v", err)
				case hash[0]%3 == 0:
					if !errors.Is(err, models.ErrKeyUnknown) {
						t.Errorf("an unknown key: %v, %v", state, err)
					}
				case err != nil || state.ID != idOf(hash):
					t.Errorf("asked for %s, got %q, %v", idOf(hash), state.ID, err)
				case state.Now < arrived:
					t.Errorf("a question that came as number %d was answered from snapshot %d", arrived, state.Now)
				}
			}
		})
	}
	wg.Wait()
	if n := statements.Load(); n < 31 {
		t.Errorf("%d statements, so none failed", n)
	}
	deadline := time.Now().Add(10 * time.Second)
	for busy := true; busy && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		k.batches.mu.Lock()
		busy = k.batches.inFlight > 0
		k.batches.mu.Unlock()
	}
	k.batches.mustBeIdle(t)
}

func idOf(h keytext.Hash) string { return fmt.Sprintf("key_%x", h[:3]) }

// A Source that panics is like one that fails, and the batches after it go out.
func TestSourcePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.fail = func(statement int) error {
			if statement < 8 {
				panic("a defect")
			}
			return nil
		}
		k := New(Config{Source: d, Hashers: []*keytext.Hasher{hasher}})
		text := keytext.Mint(keytext.Live).Reveal()
		for range 4 { // of two statements each
			if _, err := k.Verify(t.Context(), text); !errors.Is(err, ErrUnavailable) {
				t.Errorf("a panic is %v", err)
			}
		}
		if _, err := k.Verify(t.Context(), text); !errors.Is(err, models.ErrKeyUnknown) {
			t.Errorf("after panics: %v", err)
		}
	})
}
