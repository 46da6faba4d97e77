package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// probed is a database that counts the questions, and answers when it is told to.
type probed struct {
	questions int // read while no question is asked
	answer    chan error
}

func (a *probed) ping(ctx context.Context) error {
	a.questions++
	select {
	case err := <-a.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A thousand probes at once are one question, which all wait for. Its answer
// counts for a second.
func TestReadyAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &probed{answer: make(chan error)}
		r := newReadiness(db.ping, time.Now)
		away := errors.New("away")
		for _, round := range []struct {
			after     time.Duration // the last round
			questions int
			err       error
		}{
			{0, 1, nil},
			{readyEvery - 1, 1, nil},
			{1, 2, away},
			{readyEvery - 1, 2, away},
			{1, 3, nil},
		} {
			time.Sleep(round.after) // of the bubble's time
			errs := make(chan error, 1000)
			for range cap(errs) {
				go func() { errs <- r.check(t.Context()) }()
			}
			synctest.Wait()
			if len(errs) == 0 {
				db.answer <- round.err
			}
			for range cap(errs) {
				if err := <-errs; !errors.Is(err, round.err) {
					t.Fatalf("a probe is answered %v, want %v", err, round.err)
				}
			}
			if db.questions != round.questions {
				t.Fatalf("%d questions, want %d", db.questions, round.questions)
			}
		}
	})
}

// A probe waits for its own time, not for the question's, and a question has an
// end, after which there is another.
func TestReadyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &probed{answer: make(chan error)}
		r := newReadiness(db.ping, time.Now)
		ctx, cancel := context.WithTimeout(t.Context(), readyEvery/4)
		defer cancel()
		var probes sync.WaitGroup
		probes.Go(func() {
			if err := r.check(t.Context()); !errors.Is(err, context.DeadlineExceeded) || db.questions != 1 {
				t.Errorf("a database that hangs: %v after %d questions", err, db.questions)
			}
		})
		probes.Go(func() {
			if err := r.check(ctx); !errors.Is(err, ctx.Err()) || ctx.Err() == nil {
				t.Errorf("a probe that has run out of time: %v", err)
			}
		})
		probes.Wait()
		probes.Go(func() {
			if err := r.check(t.Context()); err != nil {
				t.Error(err)
			}
		})
		db.answer <- nil
		probes.Wait()
		if db.questions != 2 {
			t.Errorf("%d questions, want 2", db.questions)
		}
	})
}

// counted counts how often the store is asked whether keys can be checked.
type counted struct {
	Store
	pings *atomic.Int32
}

func (c counted) Ping(ctx context.Context) error {
	c.pings.Add(1)
	return c.Store.Ping(ctx)
}

// As long as the clock stands still, any number of probes ask the database once.
func TestProbesShareAQuestion(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		var pings atomic.Int32
		now := time.Now()
		cfg := s.cfg
		cfg.Store, cfg.Now = counted{cfg.Store, &pings}, func() time.Time { return now }
		h, err := New(cfg)
		mustBeNil(t, err)
		var probes sync.WaitGroup
		for range 1000 {
			probes.Go(func() {
				status := serveTo(h, "/readyz", "").Code
				if status != http.StatusOK && status != http.StatusServiceUnavailable { // on a busy machine
					t.Errorf("a probe is answered %d", status)
				}
			})
		}
		probes.Wait()
		if n := pings.Load(); n != 1 {
			t.Errorf("%d questions", n)
		}
	})
}

// serveTo answers a GET, which came through a proxy if forwarded says for whom.
func serveTo(h http.Handler, path, forwarded string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	if forwarded != "" {
		r.Header.Set("X-Forwarded-For", forwarded)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A server that is withdrawn tells probes so, answers all else, and asks for
// connections to be closed. It knows whether a proxy is watching.
func TestWithdraw(t *testing.T) {
	s := sqliteSite(t)
	h := func() *Handler {
		h, err := New(s.cfg)
		mustBeNil(t, err)
		return h
	}
	for name, prepare := range map[string]func(*Handler){
		"never probed":          func(*Handler) {},
		"probed long ago":       func(h *Handler) { serveTo(h, "/readyz", ""); s.clock.advance(probedLately + time.Second) },
		"asked through a proxy": func(h *Handler) { serveTo(h, "/readyz", "192.0.2.1") },
		"asked for its health":  func(h *Handler) { serveTo(h, "/healthz", "") },
	} {
		h := h()
		prepare(h)
		if h.Withdraw() != nil {
			t.Errorf("%s: it waits for a probe", name)
		}
	}

	server := h()
	for _, path := range []string{"/readyz", "/healthz"} {
		if c := serveTo(server, path, "").Header().Get("Connection"); c != "" {
			t.Errorf("before: %s is answered with Connection %q", path, c)
		}
	}
	told := server.Withdraw()
	if told == nil {
		t.Fatal("it does not know that it is probed")
	}
	closed := func() bool {
		select {
		case <-told:
			return true
		default:
			return false
		}
	}
	for _, ask := range []struct {
		path, forwarded string
		status          int
		told            bool
	}{
		{"/healthz", "", http.StatusOK, false},
		{"/v1/key", "192.0.2.1", http.StatusUnauthorized, false},
		{"/login", "192.0.2.1", http.StatusOK, false},
		{"/readyz", "192.0.2.1", http.StatusServiceUnavailable, false},
		{"/readyz", "", http.StatusServiceUnavailable, true},
		{"/readyz", "", http.StatusServiceUnavailable, true},
		{"/login", "192.0.2.1", http.StatusOK, true},
	} {
		w := serveTo(server, ask.path, ask.forwarded)
		if w.Code != ask.status || w.Header().Get("Connection") != "close" || closed() != ask.told {
			t.Errorf("%s for %q is answered %d, Connection %q, told %t", ask.path, ask.forwarded, w.Code, w.Header().Get("Connection"), closed())
		}
		if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}
