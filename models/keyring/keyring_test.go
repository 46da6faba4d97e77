package keyring

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
)

var hasher = keytext.NewHasher([]byte("pepper"))

// database is a Source in memory. Each statement takes as long as delay says and sees the keys as they are when it starts.
type database struct {
	mu         sync.Mutex
	keys       map[keytext.Hash]models.KeyState
	statements [][]keytext.Hash
	described  []bool // of each statement
	delay      func(statement int) time.Duration
	fail       func(statement int) error
}

func newDatabase() *database {
	return &database{
		keys:  map[keytext.Hash]models.KeyState{},
		delay: func(int) time.Duration { return time.Millisecond },
		fail:  func(int) error { return nil },
	}
}

func (d *database) KeysByHash(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	d.mu.Lock()
	n := len(d.statements)
	d.statements, d.described = append(d.statements, slices.Clone(hashes)), append(d.described, describe)
	for _, h := range hashes {
		if k, ok := d.keys[h]; ok {
			k.Now = models.At(time.Now())
			if describe {
				k.Description = &models.KeyDescription{Name: "the name of " + k.ID}
			}
			found = append(found, k)
		}
	}
	d.mu.Unlock()
	select {
	case <-time.After(d.delay(n)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return found, d.fail(n)
}

func (d *database) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.statements)
}

func (d *database) add(change ...func(*models.KeyState)) (text string, h keytext.Hash) {
	secret := keytext.Mint(keytext.Live)
	h = hasher.Hash(secret)
	state := models.KeyState{
		Hash: h, ID: "key_" + secret.Hint(), AccountID: "acct_1", Mode: keytext.Live, Permissions: models.FullAccess,
	}
	for _, fn := range change {
		fn(&state)
	}
	d.keys[h] = state
	return secret.Reveal(), h
}

func (d *database) revoke(h keytext.Hash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.keys[h]
	k.RevokedAt = models.At(time.Now())
	d.keys[h] = k
}

func newKeyring(d *database) *Keyring {
	return New(Config{Source: d, Hashers: []*keytext.Hasher{hasher}})
}

func TestVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		now := models.At(time.Now())
		active, _ := d.add()
		revoked, _ := d.add(func(k *models.KeyState) { k.RevokedAt = now.Add(-time.Hour) })
		both, _ := d.add(func(k *models.KeyState) { k.RevokedAt, k.ExpiresAt = now.Add(-time.Hour), now.Add(-2*time.Hour) })
		expired, _ := d.add(func(k *models.KeyState) { k.ExpiresAt = now.Add(-time.Microsecond) })
		later, _ := d.add(func(k *models.KeyState) { k.ExpiresAt = now.Add(time.Hour) })
		k := newKeyring(d)
		for _, tt := range []struct {
			name, text string
			want       error
			known      bool
		}{
			{"active key", active, nil, true},
			{"key that expires later", later, nil, true},
			{"revoked key", revoked, models.ErrKeyRevoked, true},
			{"revoked wins over expired", both, models.ErrKeyRevoked, true},
			{"expired key", expired, models.ErrKeyExpired, true},
			{"unknown key", keytext.Mint(keytext.Live).Reveal(), models.ErrKeyUnknown, false},
			{"malformed key", "cic_live_", keytext.ErrMalformed, false},
			{"wrong checksum", active[:len(active)-6] + "000000", keytext.ErrChecksum, false},
		} {
			p, err := k.Verify(t.Context(), tt.text)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			if (p.KeyID != "") != tt.known || tt.known && (p.AccountID != "acct_1" || p.Permissions != models.FullAccess) {
				t.Errorf("%s: principal %+v", tt.name, p)
			}
		}
	})
}

// A description comes with the statement that checks the key, and only to those
// who ask for one.
func TestDescribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		text, h := d.add()
		other, _ := d.add()
		k := newKeyring(d)
		check := func(verify func(context.Context, string) (models.Principal, error), text string, want bool) {
			t.Helper()
			p, err := verify(t.Context(), text)
			switch {
			case err != nil:
				t.Error(err)
			case !want && p.Description != nil:
				t.Errorf("described without asking: %+v", p.Description)
			case want && (p.Description == nil || p.Description.Name != "the name of "+p.KeyID):
				t.Errorf("description %+v of %s", p.Description, p.KeyID)
			}
		}
		check(k.Verify, text, false)
		var wg sync.WaitGroup
		wg.Go(func() { check(k.Verify, text, false) }) // keeps the others waiting, for one statement
		synctest.Wait()
		wg.Go(func() { check(k.Verify, text, false) })
		wg.Go(func() { check(k.Describe, other, true) })
		wg.Go(func() { check(k.Describe, text, true) })
		wg.Wait()
		check(k.Verify, text, false)
		if want := []bool{false, false, true, false}; !slices.Equal(d.described, want) {
			t.Errorf("statements with descriptions: %v, want %v", d.described, want)
		}
		d.revoke(h)
		if _, err := k.Describe(t.Context(), text); !errors.Is(err, models.ErrKeyRevoked) {
			t.Errorf("a revoked key: %v", err)
		}
	})
}

// A key works until the instant it expires and not at it, by the database's clock.
func TestExpiryIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(int) time.Duration { return 0 }
		expires := models.At(time.Now()).Add(time.Minute)
		text, _ := d.add(func(k *models.KeyState) { k.ExpiresAt = expires })
		k := newKeyring(d)
		time.Sleep(time.Minute - time.Microsecond)
		if _, err := k.Verify(t.Context(), text); err != nil {
			t.Errorf("a microsecond before: %v", err)
		}
		time.Sleep(time.Until(expires.Time()))
		if _, err := k.Verify(t.Context(), text); err == nil {
			t.Error("accepted at the instant of expiry")
		}
	})
}

func TestGarbageNeverReachesTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		k := newKeyring(d)
		good := keytext.Mint(keytext.Live).Reveal()
		for _, text := range []string{"", "x", good + "0", good[:len(good)-1], strings.ToUpper(good), good[:9] + "!" + good[10:]} {
			if _, err := k.Verify(t.Context(), text); err == nil {
				t.Errorf("%d bytes of garbage accepted", len(text))
			}
		}
		if d.count() != 0 {
			t.Errorf("%d statements", d.count())
		}
	})
}

// verifyAll calls Verify n times at once.
func verifyAll(t *testing.T, k *Keyring, n int, text func(i int) string) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = k.Verify(t.Context(), text(i)) })
	}
	wg.Wait()
	return errs
}

func TestLookupsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(int) time.Duration { return 5 * time.Millisecond }
		var texts []string
		for range 100 {
			text, _ := d.add()
			texts = append(texts, text)
		}
		errs := verifyAll(t, newKeyring(d), 1000, func(i int) string { return texts[i%100] })
		for i, err := range errs {
			if err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		// The first to arrive goes alone; the others wait for it, and have 100 keys between them.
		if d.count() > 3 {
			t.Errorf("%d statements for 1,000 requests that came at once", d.count())
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		k := New(Config{Source: d, Hashers: []*keytext.Hasher{hasher}, MaxBatch: 10})
		var texts []string
		for range 35 {
			text, _ := d.add()
			texts = append(texts, text)
		}
		for i, err := range verifyAll(t, k, 35, func(i int) string { return texts[i] }) {
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
		for _, s := range d.statements {
			if len(s) > 10 {
				t.Errorf("%d keys in one statement", len(s))
			}
		}
	})
}

// The promise itself: a request that arrives after a revocation is never answered from a statement sent before it.
func TestNoAnswerFromAnOlderSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(int) time.Duration { return 50 * time.Millisecond } // slow, so that a second batch goes too
		text, h := d.add()
		k := newKeyring(d)
		early := make(chan error, 1)
		go func() { _, err := k.Verify(t.Context(), text); early <- err }()
		time.Sleep(time.Millisecond) // the statement is on its way
		d.revoke(h)
		if _, err := k.Verify(t.Context(), text); !errors.Is(err, models.ErrKeyRevoked) {
			t.Errorf("after the revocation: %v", err)
		}
		if err := <-early; err != nil {
			t.Errorf("the request before the revocation: %v", err)
		}
	})
}

func TestSlowBatchDoesNotHoldUpTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(n int) time.Duration {
			if n == 0 {
				return time.Hour // a frozen backend
			}
			return time.Millisecond
		}
		slow, _ := d.add()
		quick, _ := d.add()
		k := newKeyring(d)
		go k.Verify(t.Context(), slow)
		time.Sleep(time.Millisecond)
		start := time.Now()
		if _, err := k.Verify(t.Context(), quick); err != nil {
			t.Errorf("beside a frozen backend: %v", err)
		}
		if took := time.Since(start); took > 25*time.Millisecond {
			t.Errorf("took %v", took)
		}
		time.Sleep(time.Second) // until the frozen one is given up
	})
}

func TestFrozenStatementIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(n int) time.Duration {
			if n == 0 {
				return time.Hour
			}
			return time.Millisecond
		}
		text, _ := d.add()
		start := time.Now()
		if _, err := newKeyring(d).Verify(t.Context(), text); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 201*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestFailedStatementIsSentAgainOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, failures := range []int{1, 2} {
			d := newDatabase()
			d.fail = func(n int) error {
				if n < failures {
					return errors.New("connection reset")
				}
				return nil
			}
			text, _ := d.add()
			_, err := newKeyring(d).Verify(t.Context(), text)
			if failures == 1 && err != nil || failures == 2 && !errors.Is(err, ErrUnavailable) {
				t.Errorf("%d failures: %v", failures, err)
			}
			if d.count() != 2 {
				t.Errorf("%d failures: %d statements", failures, d.count())
			}
		}
	})
}

// An outage is 503 in time for everybody, and leaves nothing behind.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		var down atomic.Bool
		down.Store(true)
		d.delay = func(int) time.Duration {
			if down.Load() {
				return time.Hour
			}
			return time.Millisecond
		}
		text, _ := d.add()
		k := newKeyring(d)
		for round := range 5 {
			start := time.Now()
			for i, err := range verifyAll(t, k, 2000, func(int) string { return text }) {
				if !errors.Is(err, ErrUnavailable) {
					t.Fatalf("round %d, request %d: %v", round, i, err)
				}
			}
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("round %d took %v", round, took)
			}
		}
		down.Store(false)
		time.Sleep(time.Second) // what was on its way is given up
		if _, err := k.Verify(t.Context(), text); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		synctest.Wait()
		if k.batches.waiting != 0 || k.batches.inFlight != 0 || len(k.batches.queue) != 0 {
			t.Errorf("left behind: %d waiting, %d in flight, %d queued", k.batches.waiting, k.batches.inFlight, len(k.batches.queue))
		}
	})
}

func TestTooManyWaitingAreTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(int) time.Duration { return 100 * time.Millisecond }
		text, _ := d.add()
		k := New(Config{Source: d, Hashers: []*keytext.Hasher{hasher}, MaxWaiting: 50})
		away := 0
		for _, err := range verifyAll(t, k, 80, func(int) string { return text }) {
			if errors.Is(err, ErrUnavailable) {
				away++
			} else if err != nil {
				t.Error(err)
			}
		}
		if away != 30 {
			t.Errorf("%d turned away, want 30", away)
		}
	})
}

func TestClientThatLeavesHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		d.delay = func(int) time.Duration { return 10 * time.Millisecond }
		text, _ := d.add()
		k := newKeyring(d)
		go k.Verify(t.Context(), text) // on its way, so that the others wait together
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { _, err := k.Verify(ctx, text); left <- err }()
		synctest.Wait()
		stays := make(chan error, 1)
		go func() { _, err := k.Verify(t.Context(), text); stays <- err }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}
		if err := <-stays; err != nil {
			t.Errorf("who stayed: %v", err)
		}
	})
}

// While secrets are rotated a key is found under whichever it was hashed with.
func TestOlderSecretStillWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatabase()
		text, _ := d.add() // under the old pepper
		newer := keytext.NewHasher([]byte("newer pepper"))
		k := New(Config{Source: d, Hashers: []*keytext.Hasher{newer, hasher}})
		if _, err := k.Verify(t.Context(), text); err != nil {
			t.Error(err)
		}
		k = New(Config{Source: d, Hashers: []*keytext.Hasher{newer}})
		if _, err := k.Verify(t.Context(), text); !errors.Is(err, models.ErrKeyUnknown) {
			t.Errorf("without the old secret: %v", err)
		}
	})
}
