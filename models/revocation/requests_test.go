package revocation

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

// A revocation whose request cannot be stored is not tried, and the caller is
// told what is known.
func TestRequestNotStored(t *testing.T) {
	for name, tt := range map[string]struct {
		requests   []error
		notRevoked bool
		tries      int
		want       error // where it was stored or refused
	}{
		"at the second try":     {[]error{errUnmade}, false, 1, nil},
		"after an unknown one":  {[]error{errAway}, false, 1, nil},
		"never":                 {times(errUnmade, 99), true, 0, nil},
		"perhaps at the first":  {append([]error{errAway}, times(errUnmade, 99)...), false, 0, nil},
		"perhaps at the second": {append([]error{errUnmade, errAway}, times(errUnmade, 99)...), false, 0, nil},
		"perhaps, then broken":  {[]error{errAway, errDefect}, false, 0, nil},
		"no such key":           {[]error{models.ErrNotFound}, false, 0, models.ErrNotFound},
		"a defect":              {[]error{errDefect}, false, 0, errDefect},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeStore{requests: tt.requests}
			revoking(t, f, Config{}, func(t *testing.T, r *Revoker) {
				_, err := r.RevokeKey(t.Context(), ada, "acct", "key")
				switch {
				case tt.want != nil || tt.tries > 0:
					if err != tt.want {
						t.Errorf("%v, want %v", err, tt.want)
					}
				case models.CodeOf(err) != models.CodeUnavailable || errors.Is(err, models.ErrInDoubt) ||
					errors.Is(err, models.ErrNotRevoked) != tt.notRevoked:
					t.Errorf("%v, want it not revoked: %v", err, tt.notRevoked)
				}
				time.Sleep(time.Minute)
				if wantDoubt(t, r, 0); len(f.tries) != tt.tries || r.Pending("acct", "key") {
					t.Errorf("%d tries, want %d; pending %v", len(f.tries), tt.tries, r.Pending("acct", "key"))
				}
			})
		})
	}
}

// A defect whose request cannot be dropped is tried again, and said to be.
func TestRequestNotDropped(t *testing.T) {
	f := &fakeStore{script: map[string][]error{"key": times(errDefect, 20)}, noDrop: errAway}
	revoking(t, f, Config{}, func(t *testing.T, r *Revoker) {
		if _, err := r.RevokeKey(t.Context(), ada, "acct", "key"); !isInDoubt(err) {
			t.Errorf("%v, want it in doubt", err)
		}
		wantDoubt(t, r, 1, "key")
	})
}

// A caller who was told that it is tried again can rely on it, also when the
// request of a defect is dropped just then.
func TestDefectAfterDoubt(t *testing.T) {
	f := &fakeStore{script: map[string][]error{"key": {errDefect}}, dropTakes: 4 * time.Second}
	revoking(t, f, Config{}, func(t *testing.T, r *Revoker) {
		if _, err := r.RevokeKey(t.Context(), ada, "acct", "key"); !isInDoubt(err) {
			t.Errorf("%v, want it in doubt", err)
		}
		time.Sleep(time.Minute)
		wantDoubt(t, r, 0)
		if len(f.tries) != 2 {
			t.Errorf("%d tries, want 2", len(f.tries))
		}
	})
}

// A failover may lose the request, so each later try stores it again.
func TestRequestStoredAgain(t *testing.T) {
	f := &fakeStore{script: map[string][]error{"key": times(errAway, 99)}}
	revoking(t, f, Config{}, func(t *testing.T, r *Revoker) {
		_, _ = r.RevokeKey(t.Context(), ada, "acct", "key")
		f.mu.Lock()
		delete(f.stored, "key")
		f.mu.Unlock()
		time.Sleep(time.Minute)
		f.wantStored(t, 1)
	})
}

// Resume goes on with the requests of a process that ended, at the start and
// later, and names their first actor. It skips requests that are young.
func TestResume(t *testing.T) {
	f := &fakeStore{script: map[string][]error{"left": times(errAway, 2)}}
	revoking(t, f, Config{}, func(t *testing.T, r *Revoker) {
		f.store("left") // no other goroutine runs yet
		r.Resume()
		time.Sleep(resumeAge - time.Second)
		f.mu.Lock()
		if wantDoubt(t, r, 0); len(f.tries) > 0 {
			t.Errorf("tried at once: %q", f.tries)
		}
		f.mu.Unlock()
		time.Sleep(resumeEvery)
		synctest.Wait()
		wantDoubt(t, r, 0)
		f.wantStored(t, 0)
		f.mu.Lock()
		if want := []string{"left user_ada", "left user_ada", "left user_ada"}; !cmp.Equal(f.tries, want) {
			t.Errorf("tries %q, want %q", f.tries, want)
		}
		f.store("later")
		f.script["later"] = times(errAway, 10)
		f.mu.Unlock()
		time.Sleep(resumeAge + resumeEvery)
		synctest.Wait()
		wantDoubt(t, r, 1, "later")
	})
}

// Resume uses the slots of retries alone, so a caller still gets a first try.
func TestResumeIsBounded(t *testing.T) {
	f := &fakeStore{takes: time.Hour}
	revoking(t, f, Config{Max: 40}, func(t *testing.T, r *Revoker) {
		for i := range 1000 {
			f.store(fmt.Sprint("left", i)) // no other goroutine runs yet
		}
		time.Sleep(resumeAge)
		r.Resume()
		synctest.Wait()
		f.mu.Lock()
		if f.out != maxRetries {
			t.Errorf("%d tries at once, want %d", f.out, maxRetries)
		}
		f.mu.Unlock()
		if n := len(r.underWay); n != 20 {
			t.Errorf("%d are under way, want half of 40", n)
		}
		_, err := r.RevokeKey(t.Context(), bob, "acct", "new")
		f.mu.Lock()
		defer f.mu.Unlock()
		if !errors.Is(err, models.ErrInDoubt) || f.out != maxRetries+1 {
			t.Errorf("%v, with %d tries at once", err, f.out)
		}
	})
}
