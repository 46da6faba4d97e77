package revocation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

var (
	errAway   = models.Unavailable(errors.New("away"))
	errUnmade = models.Unavailable(models.ErrNotChanged)
	errDefect = errors.New("a defect")
	ada       = models.Actor{Type: models.ActorUser, ID: "user_ada"}
	bob       = models.Actor{Type: models.ActorUser, ID: "user_bob"}
)

// fakeStore answers the tries of a key in the order of its script, and nil when
// that has ended. A try takes as long as takes says, or until its context ends.
type fakeStore struct {
	takes     time.Duration
	requests  []error       // answers to RequestRevocation, in order, then nil
	noDrop    error         // the answer to DropRequest
	dropTakes time.Duration // DropRequest

	mu     sync.Mutex
	script map[string][]error
	stored map[string]time.Time // the requests, by key
	tries  []string             // "key actor", in order
	at     []time.Time
	out    int // now
	most   int
}

func (f *fakeStore) RequestRevocation(_ context.Context, _ models.Actor, _, keyID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) > 0 {
		err := f.requests[0]
		f.requests = f.requests[1:]
		if err != nil {
			return err
		}
	}
	f.store(keyID)
	return nil
}

func (f *fakeStore) store(keyID string) {
	if f.stored == nil {
		f.stored = map[string]time.Time{}
	}
	if f.stored[keyID].IsZero() {
		f.stored[keyID] = time.Now()
	}
}

func (f *fakeStore) forget(keyID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.stored, keyID)
}

func (f *fakeStore) DropRequest(_ context.Context, _, keyID string) error {
	time.Sleep(f.dropTakes)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.noDrop == nil {
		delete(f.stored, keyID)
	}
	return f.noDrop
}

func (f *fakeStore) RevocationRequests(_ context.Context, age time.Duration) (list []models.RevocationRequest, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, at := range f.stored {
		if time.Since(at) >= age {
			list = append(list, models.RevocationRequest{AccountID: "acct", KeyID: id, ActorType: ada.Type, ActorID: ada.ID})
		}
	}
	return list, nil
}

func (f *fakeStore) wantStored(t *testing.T, n int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.stored) != n {
		t.Errorf("stored requests: %v, want %d", f.stored, n)
	}
}

func (f *fakeStore) RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error) {
	f.mu.Lock()
	f.tries, f.at = append(f.tries, keyID+" "+by.ID), append(f.at, time.Now())
	f.out++
	f.most = max(f.most, f.out)
	var err error
	if s := f.script[keyID]; len(s) > 0 {
		err, f.script[keyID] = s[0], s[1:]
	}
	takes := f.takes
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.out--
		f.mu.Unlock()
	}()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return models.KeyRecord{}, models.Unavailable(ctx.Err())
		}
	}
	if err == nil || err == models.ErrNotFound { // a request has a key
		f.forget(keyID)
	}
	if err != nil {
		return models.KeyRecord{}, err
	}
	return models.KeyRecord{APIKey: models.APIKey{ID: keyID, AccountID: accountID, RevokedAt: 1}}, nil
}

// pauses are the times between tries.
func (f *fakeStore) pauses() (list []time.Duration) {
	for i := 1; i < len(f.at); i++ {
		list = append(list, f.at[i].Sub(f.at[i-1]))
	}
	return list
}

func times(err error, n int) (script []error) {
	for range n {
		script = append(script, err)
	}
	return script
}

// revoking runs fn with a Revoker on a fake store, in a bubble with a clock of its own.
func revoking(t *testing.T, f *fakeStore, cfg Config, fn func(t *testing.T, r *Revoker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Store = f
		if cfg.Log == nil {
			cfg.Log = slog.New(slog.DiscardHandler)
		}
		r := New(cfg)
		fn(t, r)
		r.Close(t.Context())
	})
}

func wantDoubt(t *testing.T, r *Revoker, n int, pending ...string) {
	t.Helper()
	if got := r.InDoubt(); got != n {
		t.Errorf("%d in doubt, want %d", got, n)
	}
	for _, id := range pending {
		if !r.Pending("acct", id) {
			t.Errorf("%s is not pending", id)
		}
	}
}

func TestRevokeKey(t *testing.T) {
	for name, tt := range map[string]struct {
		script []error
		want   error
		tries  int
	}{
		"at once":            {nil, nil, 1},
		"no such key":        {[]error{models.ErrNotFound}, models.ErrNotFound, 1},
		"a defect":           {[]error{errDefect}, errDefect, 1},
		"at the second try":  {times(errAway, 1), nil, 2},
		"gone meanwhile":     {[]error{errAway, models.ErrNotFound}, models.ErrNotFound, 2},
		"a defect meanwhile": {[]error{errAway, errDefect}, nil, 3}, // which does not tell how the first try ended
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			f := &fakeStore{script: map[string][]error{"key": tt.script}}
			revoking(t, f, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, r *Revoker) {
				key, err := r.RevokeKey(t.Context(), ada, "acct", "key")
				if n := strings.Count(log.String(), `msg="revocation confirmed" key=key `); (n == 1) != (err == nil) || n > 1 {
					t.Errorf("it says %d times that it is confirmed: %s", n, log.String())
				}
				f.wantStored(t, 0)
				if err != tt.want || err == nil && key.ID != "key" {
					t.Errorf("%q, %v; want %v", key.ID, err, tt.want)
				}
				if len(f.tries) != tt.tries {
					t.Errorf("%d tries, want %d", len(f.tries), tt.tries)
				}
				if wantDoubt(t, r, 0); r.Pending("acct", "key") {
					t.Error("still pending")
				}
			})
		})
	}
}

type writerFunc func(line string)

func (w writerFunc) Write(line []byte) (int, error) { w(string(line)); return len(line), nil }

// The log knows of a revocation before any page may show it.
func TestLoggedFirst(t *testing.T) {
	var r *Revoker
	logged := 0
	log := slog.New(slog.NewTextHandler(writerFunc(func(line string) {
		if strings.Contains(line, "revocation confirmed") {
			logged++
			if !r.Pending("acct", "key") {
				t.Error("logged when it was no longer pending")
			}
		}
	}), nil))
	revoking(t, &fakeStore{}, Config{Log: log}, func(t *testing.T, revoker *Revoker) {
		r = revoker
		if _, err := r.RevokeKey(t.Context(), ada, "acct", "key"); err != nil || logged != 1 {
			t.Errorf("logged %d times, %v", logged, err)
		}
	})
}

// What is in doubt is tried again, ever more slowly, until it is certain, for whoever asked first.
func TestInDoubtUntilCertain(t *testing.T) {
	f := &fakeStore{script: map[string][]error{"key": times(errAway, 7)}}
	revoking(t, f, Config{Patience: time.Second}, func(t *testing.T, r *Revoker) {
		if _, err := r.RevokeKey(t.Context(), ada, "acct", "key"); !isInDoubt(err) {
			t.Errorf("%v, want it in doubt", err)
		}
		f.wantStored(t, 1)
		wantDoubt(t, r, 1, "key")
		if r.Pending("other", "key") {
			t.Error("pending for another account")
		}
		time.Sleep(time.Minute)
		wantDoubt(t, r, 0)
		s := time.Second
		if diff := cmp.Diff([]time.Duration{s / 2, s, 2 * s, 4 * s, 5 * s, 5 * s, 5 * s}, f.pauses()); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		for _, try := range f.tries {
			if try != "key user_ada" {
				t.Errorf("a try for %s", try)
			}
		}
	})
}

// However many ask for one key, one try at a time goes to the database, and asking again brings the next try forward.
func TestJoin(t *testing.T) {
	f := &fakeStore{takes: 200 * time.Millisecond, script: map[string][]error{"key": times(errAway, 3)}}
	revoking(t, f, Config{Patience: time.Second, Pause: time.Hour, MaxPause: time.Hour}, func(t *testing.T, r *Revoker) {
		var asking sync.WaitGroup
		for i := range 32 {
			asking.Go(func() {
				if _, err := r.RevokeKey(t.Context(), []models.Actor{ada, bob}[i%2], "acct", "key"); !isInDoubt(err) {
					t.Errorf("%v, want it in doubt", err)
				}
			})
		}
		asking.Wait()
		wantDoubt(t, r, 1, "key")
		if len(f.tries) != 2 || f.most != 1 { // one for the first who asked, one for all that came meanwhile
			t.Errorf("%d tries, %d at once", len(f.tries), f.most)
		}
		_, _ = r.RevokeKey(t.Context(), bob, "acct", "key") // in doubt for the third time
		if _, err := r.RevokeKey(t.Context(), bob, "acct", "key"); err != nil {
			t.Errorf("asked again: %v", err)
		}
		if wantDoubt(t, r, 0); f.tries[0] != f.tries[3] {
			t.Errorf("tries for %v", f.tries)
		}
	})
}

func isInDoubt(err error) bool {
	return models.CodeOf(err) == models.CodeUnavailable && errors.Is(err, models.ErrInDoubt) &&
		!errors.Is(err, models.ErrNotRevoked)
}

// A caller that leaves or has waited enough does not end the try, whose end may be a good one.
func TestSlowTry(t *testing.T) {
	f := &fakeStore{takes: 4 * time.Second}
	revoking(t, f, Config{}, func(t *testing.T, r *Revoker) {
		ctx, leave := context.WithCancel(t.Context())
		leave()
		for _, ctx := range []context.Context{ctx, t.Context()} {
			if _, err := r.RevokeKey(ctx, ada, "acct", "key"); models.CodeOf(err) != models.CodeUnavailable {
				t.Errorf("%v, want it in doubt", err)
			}
		}
		wantDoubt(t, r, 1, "key")
		time.Sleep(2 * time.Second)
		if wantDoubt(t, r, 0); len(f.tries) != 1 {
			t.Errorf("%d tries", len(f.tries))
		}
	})
}

// The tries at once are bounded, first tries and retries alike. A caller whose
// revocation waits in vain for a slot is told that it is in doubt, because the
// request is stored. A request beyond Max is stored too and tried later.
func TestBounds(t *testing.T) {
	const most, beyond = 40, 2
	f := &fakeStore{takes: time.Hour, script: map[string][]error{}}
	revoking(t, f, Config{Max: most}, func(t *testing.T, r *Revoker) {
		var asking sync.WaitGroup
		for i := range most + beyond {
			asking.Go(func() {
				if _, err := r.RevokeKey(t.Context(), ada, "acct", fmt.Sprint("key", i)); !isInDoubt(err) {
					t.Errorf("%v, want it in doubt", err)
				}
			})
		}
		asking.Wait()
		wantDoubt(t, r, most)
		f.wantStored(t, most+beyond)
		time.Sleep(10 * time.Minute)
		f.mu.Lock()
		if f.most != maxFirsts+maxRetries {
			t.Errorf("%d tries at once, want %d", f.most, maxFirsts+maxRetries)
		}
		f.takes = 0
		f.mu.Unlock()
		r.Resume()
		time.Sleep(time.Minute)
		f.wantStored(t, 0)
		wantDoubt(t, r, 0)
	})
}

func TestClose(t *testing.T) {
	var log bytes.Buffer
	f := &fakeStore{script: map[string][]error{"key_a": times(errAway, 99), "key_b": times(errAway, 99)}}
	revoking(t, f, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, r *Revoker) {
		for _, id := range []string{"key_b", "key_a"} {
			_, _ = r.RevokeKey(t.Context(), ada, "acct", id)
		}
		r.Close(t.Context())
		if !strings.Contains(log.String(), `level=WARN msg="revocations are not confirmed: `) ||
			!strings.Contains(log.String(), `keys="[key_a key_b]"`) {
			t.Errorf("the log has %s", log.String())
		}
		tries := len(f.tries)
		time.Sleep(time.Minute)
		if len(f.tries) != tries {
			t.Error("tried again after Close")
		}
		if _, err := r.RevokeKey(t.Context(), ada, "acct", "key_c"); err != nil || len(f.tries) != tries+1 {
			t.Errorf("after Close: %v", err)
		}
		f.wantStored(t, 2)
		// Nobody promises to try again.
		f.script["key_d"] = times(errAway, 9)
		for _, id := range []string{"key_a", "key_d"} {
			_, err := r.RevokeKey(t.Context(), ada, "acct", id)
			if models.CodeOf(err) != models.CodeUnavailable || errors.Is(err, models.ErrInDoubt) || errors.Is(err, models.ErrNotRevoked) {
				t.Errorf("%s after Close: %v, want it unknown", id, err)
			}
		}
	})
}
