// Package usage records which keys are used, from where and for what, without slowing or failing the requests that use
// them: uses are gathered in memory and saved in batches. What is in memory is lost in a crash: the uses of the last
// Config.Every, and those that could not be saved since the sink failed. It knows nothing of keys but their ids.
package usage

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cicosts/models"
)

// Sink saves what was gathered. The store is one.
type Sink interface {
	// SaveUse must keep the newest uses and add up the counts, in one
	// transaction, and once for each ID. dropped counts the requests that it
	// left out. After an error with the code "unavailable" the same batch is
	// sent again, as it may have been saved. Any other error says that
	// nothing was saved, and that the batch would be refused again.
	SaveUse(ctx context.Context, uses models.Uses) (dropped int64, err error)
}

// Config says where to save and how often. Zero values mean the defaults.
type Config struct {
	Sink Sink
	// Every is the least time from one flush to the next: 10 s. The first use after a pause of that length is saved after Soon.
	Every time.Duration
	// Soon is how long a flush waits for more when none was made lately, so that a key just tried shows it: 500 ms.
	Soon time.Duration
	// FlushAt is how many entries in memory bring a flush at once: 1,000.
	FlushAt int
	// Max is how many entries are kept while the sink fails: 50,000. Entries
	// of batches that may have been saved count too. Uses beyond Max are
	// dropped and counted. A use that is kept may lack its source.
	Max int
}

// Recorder gathers uses. It is safe for concurrent use.
type Recorder struct {
	cfg Config

	mu      sync.Mutex
	pending entries
	dropped int64

	// frozen holds the batches that were sent, or parts of them, and are not
	// known to be saved.
	frozen     []models.Uses
	frozenSize int // entries of all

	sending sync.Mutex // held by flush, as it alone changes frozen

	wake   chan struct{} // something to flush
	full   chan struct{} // flush now
	stop   chan struct{}
	done   chan struct{}
	closed sync.Once
}

type useKey struct {
	keyID   string
	refused bool
}

type countKey struct {
	keyID   string
	day     models.Day
	route   string
	outcome models.Outcome
}

type entries struct {
	newest   map[useKey]models.LastUse
	counts   map[countKey]int64
	refusals refusals
}

func (e *entries) reset() {
	e.newest, e.counts = map[useKey]models.LastUse{}, map[countKey]int64{}
	e.refusals = refusals{byKey: map[string][]models.RefusalSource{}}
}

func (e *entries) size() int {
	return len(e.newest) + len(e.counts) + e.refusals.size
}

func (e *entries) uses() models.Uses {
	return models.Uses{Newest: e.sortedUses(), Counts: e.sortedCounts(), Refusals: e.refusals.sorted()}
}

// New starts a Recorder. Close it to save the rest.
func New(cfg Config) *Recorder {
	cfg.Every = cmp.Or(cfg.Every, 10*time.Second)
	cfg.Soon = cmp.Or(cfg.Soon, 500*time.Millisecond)
	cfg.FlushAt = cmp.Or(cfg.FlushAt, 1000)
	cfg.Max = cmp.Or(cfg.Max, 50_000)
	r := &Recorder{
		cfg: cfg, wake: make(chan struct{}, 1), full: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	r.pending.reset()
	go r.run()
	return r
}

// Record notes one request. It never blocks on anything but memory.
func (r *Recorder) Record(use models.LastUse) {
	r.mu.Lock()
	size := r.add(use)
	r.mu.Unlock()
	signal(r.wake)
	if size >= r.cfg.FlushAt {
		signal(r.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add must be called with mu held. It returns how many entries there are.
func (r *Recorder) add(use models.LastUse) int {
	uk := useKey{use.KeyID, use.Refused}
	ck := countKey{use.KeyID, use.UsedAt.Day(), use.Route, use.Outcome}
	last, known := r.pending.newest[uk]
	if _, counted := r.pending.counts[ck]; !(known && counted) && !r.room() {
		r.dropped++
		return r.pending.size()
	}
	if !known || use.UsedAt > last.UsedAt {
		r.pending.newest[uk] = use
	}
	r.pending.counts[ck]++
	if use.Refused && use.Outcome.Ended() {
		r.pending.refusals.add(sourceOf(&use), r.room())
	}
	return r.pending.size()
}

// room reports whether there is room for one more entry. It must be called with mu held.
func (r *Recorder) room() bool { return r.pending.size()+r.frozenSize < r.cfg.Max }

// Dropped returns how many uses were not saved, because the sink failed for too
// long, left them out or refused them.
func (r *Recorder) Dropped() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Close saves what is left, until ctx ends, and stops the Recorder. Uses recorded later are lost.
func (r *Recorder) Close(ctx context.Context) error {
	r.closed.Do(func() { close(r.stop) })
	select {
	case <-r.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return r.flush(ctx)
}

func (r *Recorder) run() {
	defer close(r.done)
	last, failed := time.Now().Add(-r.cfg.Every), false
	for {
		select {
		case <-r.wake:
		case <-r.stop:
			return
		}
		if !r.pause(max(r.cfg.Soon, r.cfg.Every-time.Since(last)), failed) {
			return
		}
		last = time.Now() // what comes during the flush waits no longer than that
		ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Every)
		err := r.flush(ctx)
		cancel()
		failed = err != nil
		if failed {
			slog.Warn("use of keys not saved yet", "error", err, "dropped", r.Dropped())
			signal(r.wake) // try again, after Every
		}
	}
}

// pause waits before a flush and reports whether to go on. A full memory cuts it short, unless the sink has just failed.
func (r *Recorder) pause(d time.Duration, failed bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	full := r.full
	if failed {
		full = nil
	}
	select {
	case <-timer.C:
	case <-full:
	case <-r.stop:
		return false
	}
	return true
}

func (e *entries) sortedUses() []models.LastUse {
	uses := make([]models.LastUse, 0, len(e.newest))
	for _, use := range e.newest {
		uses = append(uses, use)
	}
	slices.SortFunc(uses, func(a, b models.LastUse) int {
		return cmp.Or(cmp.Compare(a.KeyID, b.KeyID), compareBools(a.Refused, b.Refused))
	})
	return uses
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (e *entries) sortedCounts() []models.DailyUse {
	counts := make([]models.DailyUse, 0, len(e.counts))
	for k, n := range e.counts {
		counts = append(counts, models.DailyUse{KeyID: k.keyID, Day: k.day, Route: k.route, Outcome: k.outcome, Requests: n})
	}
	slices.SortFunc(counts, func(a, b models.DailyUse) int {
		return cmp.Or(cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Day, b.Day), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Outcome, b.Outcome))
	})
	return counts
}
