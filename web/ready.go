package web

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// readyEvery is the least time from one question to the database to the
	// next. It is also how long a probe waits for the answer.
	readyEvery = time.Second
	// probedLately is how old the last probe of a proxy may be while the proxy
	// still watches. Proxies probe every 1 to 30 s.
	probedLately = time.Minute
)

// readiness is what GET /readyz says. It asks the database at most once in
// readyEvery, and all probes share the answer. It is safe for concurrent use.
type readiness struct {
	ping func(ctx context.Context) error
	now  func() time.Time

	withdrawn atomic.Bool   // the answer is 503, and no question is asked
	told      chan struct{} // closed when a probe is told so

	mu     sync.Mutex // guards what follows
	latest *question
	probed time.Time // when a probe came last
}

// question is one question to the database.
type question struct {
	asked time.Time
	done  chan struct{} // closed when err is set
	err   error
}

func newReadiness(ping func(context.Context) error, now func() time.Time) *readiness {
	return &readiness{ping: ping, now: now, told: make(chan struct{})}
}

// check returns why keys cannot be checked, or nil. It waits for a question that
// is under way until ctx ends.
func (r *readiness) check(ctx context.Context) error {
	q := r.question()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// question returns the latest question, or a new one when that is answered and
// too old.
func (r *readiness) question() *question {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.latest; q != nil {
		select {
		case <-q.done:
			if r.now().Sub(q.asked) < readyEvery {
				return q
			}
		default:
			return q
		}
	}
	q := &question{asked: r.now(), done: make(chan struct{})}
	r.latest = q
	go func() {
		defer close(q.done)
		ctx, cancel := context.WithTimeout(context.Background(), readyEvery)
		defer cancel()
		q.err = r.ping(ctx)
	}()
	return q
}

// withdraw makes the answer 503 from now on. The next probe closes the channel.
// The channel is nil if the last probe is older than probedLately.
func (r *readiness) withdraw() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.withdrawn.Store(true)
	if r.probed.IsZero() || r.now().Sub(r.probed) > probedLately {
		return nil
	}
	return r.told
}

// probe notes a probe and reports whether the server is withdrawn. A request
// that a proxy passes on does not count as the proxy's own probe.
func (r *readiness) probe(passedOn bool) (withdrawn bool) {
	withdrawn = r.withdrawn.Load()
	if passedOn {
		return withdrawn
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probed = r.now()
	if withdrawn {
		select {
		case <-r.told:
		default:
			close(r.told)
		}
	}
	return withdrawn
}

// ready answers 200 while keys can be checked and the server is not withdrawn.
func (s *server) ready(c echo.Context) error {
	if s.readiness.probe(c.Request().Header.Get(echo.HeaderXForwardedFor) != "") {
		tellRetryAfter(c)
		return c.String(http.StatusServiceUnavailable, "this replica is stopping\n")
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyEvery)
	defer cancel()
	if err := s.readiness.check(ctx); err != nil {
		c.Set(failureKey, err)
		tellRetryAfter(c)
		return c.String(http.StatusServiceUnavailable, "the database does not answer\n")
	}
	return c.String(http.StatusOK, "ok\n")
}

// Handler answers everything that the program serves. It is safe for concurrent
// use.
type Handler struct {
	next      http.Handler
	readiness *readiness
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.readiness.withdrawn.Load() {
		w.Header().Set("Connection", "close")
	}
	h.next.ServeHTTP(w, r)
}

// Withdraw makes GET /readyz answer 503 from now on, so that proxies turn to
// other replicas, and every answer ask its client to close the connection. All
// else is answered as before. The channel is closed when a probe is told. It is
// nil if there was no probe within the last minute.
func (h *Handler) Withdraw() <-chan struct{} { return h.readiness.withdraw() }
