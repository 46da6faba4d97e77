// Package revocation makes revocations certain. A revocation that the database
// has not confirmed is in doubt: its caller is told so, and it is tried again
// until it is certain.
//
// Each revocation is stored as a request before its first try. So every replica
// can show what is in doubt, and Resume goes on with requests of processes that
// ended. A revocation whose request cannot be stored is not tried.
package revocation

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cicosts/models"
)

// Store revokes keys. Trying again must be harmless: one line in the history in the end, and the first time kept.
type Store interface {
	// RequestRevocation stores a request. With code "unavailable" it is unknown
	// whether it is stored, unless models.ErrNotChanged is in the chain.
	RequestRevocation(ctx context.Context, by models.Actor, accountID, keyID string) error
	// RevokeKey returns nil only when the revocation is certain. It then deletes
	// the request; if that fails, the next Resume does. Code "unavailable" says
	// that the outcome is unknown.
	RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error)
	// DropRequest deletes a request after which nothing is left to do.
	DropRequest(ctx context.Context, accountID, keyID string) error
	// RevocationRequests returns the oldest requests that have been stored for
	// at least age.
	RevocationRequests(ctx context.Context, age time.Duration) ([]models.RevocationRequest, error)
}

// Config says how to revoke. Zero values mean the defaults.
type Config struct {
	Store Store
	// Patience is how long a caller waits, or until its context ends: 3 s. The
	// tries go on without it.
	Patience time.Duration
	// Storing is for how long storing the request is tried: Patience.
	Storing time.Duration
	// Pause is the time after the first try, doubled after each further one up to MaxPause: 500 ms and 5 s.
	Pause, MaxPause time.Duration
	// Max is how many revocations may be under way: 1,000. One beyond is
	// stored, and tried once while its caller waits. Later Resume takes it up.
	Max int
	// Log is told of what is in doubt; nil means slog.Default.
	Log *slog.Logger
}

// A try may hold a connection for its whole timeout, while a synchronous
// standby is missing. So the tries at once are fewer than the connections that
// the pages have, and retries do not take the place of first tries.
const (
	tryTimeout   = 5 * time.Second // of one try
	maxFirsts    = 3               // first tries at once
	maxRetries   = 2               // other tries at once, those of Resume included
	requestPause = 200 * time.Millisecond
)

// Resume looks every resumeEvery for requests that are at least resumeAge old.
// The process that stored a younger one is probably still trying.
const (
	resumeEvery = 5 * time.Second
	resumeAge   = 10 * time.Second
)

// ConfirmedMessage is the message of the log record of each confirmed
// revocation. The README feeds these records to "cicosts key revoke -".
const ConfirmedMessage = "revocation confirmed"

// Revoker revokes keys. It is safe for concurrent use.
type Revoker struct {
	cfg     Config
	firsts  chan struct{}  // holds one for each first try under way
	retries chan struct{}  // holds one for each other try under way
	stop    chan struct{}  // closed by Close
	running sync.WaitGroup // of what is under way

	mu       sync.Mutex // guards what follows
	underWay map[target]*task
	inDoubt  int
	closed   bool
}

// target is a key as its account knows it: another account asking for its id must learn nothing of it.
type target struct{ accountID, keyID string }

// task is one revocation under way, and its end.
type task struct {
	target
	by      models.Actor  // who asked first
	resumed bool          // the request is another process's, or of another time
	stored  chan struct{} // closed when the request is stored
	again   chan struct{} // cuts the pause short
	doubt   bool          // a try ended with an unknown outcome, or a caller was told so; guarded by Revoker.mu
	settled bool          // no caller may be told that it is in doubt; guarded by Revoker.mu

	done chan struct{} // closed when key and err are set
	key  models.KeyRecord
	err  error
}

// New returns a Revoker. Close it to stop what it does in the background.
func New(cfg Config) *Revoker {
	cfg.Patience = cmp.Or(cfg.Patience, 3*time.Second)
	cfg.Storing = cmp.Or(cfg.Storing, cfg.Patience)
	cfg.Pause = cmp.Or(cfg.Pause, 500*time.Millisecond)
	cfg.MaxPause = cmp.Or(cfg.MaxPause, 5*time.Second)
	cfg.Max = cmp.Or(cfg.Max, 1000)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Revoker{
		cfg: cfg, firsts: make(chan struct{}, maxFirsts), retries: make(chan struct{}, maxRetries),
		stop: make(chan struct{}), underWay: map[target]*task{},
	}
}

// RevokeKey revokes a key of the account and returns its record; who joins a
// revocation under way shares its end. It blocks for about Patience at most. A
// nil error says that the revocation is certain. Code "unavailable" says what
// else is known:
//
//   - models.ErrInDoubt: the key may still work. The request is stored and
//     tried again, even if ctx is cancelled, until the revocation is certain.
//   - models.ErrNotRevoked: the key is not revoked, and nothing is tried again.
//   - neither: the outcome is unknown, and perhaps nothing is tried again.
//
// Other errors are the store's, such as models.ErrNotFound. With them the key
// is not revoked, and nothing is tried again.
func (r *Revoker) RevokeKey(
	ctx context.Context, by models.Actor, accountID, keyID string,
) (models.KeyRecord, error) {
	patience, cancel := context.WithTimeout(ctx, r.cfg.Patience)
	defer cancel()
	t := r.join(by, target{accountID, keyID}, false)
	if t == nil {
		return r.once(ctx, by, target{accountID, keyID})
	}
	select {
	case <-t.stored:
	case <-t.done: // it could not be stored
		return t.key, t.err
	case <-ctx.Done():
		return models.KeyRecord{}, models.RevocationUnknown(fmt.Errorf("revoking key %s: %w", keyID, ctx.Err()))
	}
	select {
	case <-t.done:
		return t.key, t.err
	case <-patience.Done():
		if !r.setDoubt(t) { // it is just ending
			<-t.done
			return t.key, t.err
		}
		return models.KeyRecord{}, r.uncertain(fmt.Errorf("revoking key %s: %w", keyID, patience.Err()))
	}
}

// uncertain is the error for a request that is stored. After Close it promises
// nothing, as another replica may be missing.
func (r *Revoker) uncertain(cause error) error {
	if r.Closed() {
		return models.RevocationUnknown(cause)
	}
	return models.RevocationInDoubt(cause)
}

// once stores the request and tries it while the caller waits, where there is
// no room for a task.
func (r *Revoker) once(ctx context.Context, by models.Actor, to target) (models.KeyRecord, error) {
	err := r.request(ctx, by, to)
	if err != nil {
		return models.KeyRecord{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Patience)
	defer cancel()
	var key models.KeyRecord
	select {
	case r.firsts <- struct{}{}:
		key, err = r.cfg.Store.RevokeKey(ctx, by, to.accountID, to.keyID)
		<-r.firsts
	case <-ctx.Done():
		err = models.Unavailable(ctx.Err())
	}
	switch {
	case err == nil:
		r.confirmed(key, by)
		return key, nil
	case models.CodeOf(err) != models.CodeUnavailable && r.drop(to):
		return models.KeyRecord{}, err
	}
	return models.KeyRecord{}, r.uncertain(err)
}

// Resume goes on with requests whose process has ended or has no room. It looks
// for them in the background until Close.
func (r *Revoker) Resume() {
	r.running.Go(func() {
		for {
			r.resume()
			select {
			case <-r.stop:
				return
			case <-time.After(resumeEvery):
			}
		}
	})
}

func (r *Revoker) resume() {
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	list, err := r.cfg.Store.RevocationRequests(ctx, resumeAge)
	if err != nil {
		r.cfg.Log.Debug("requests of revocations were not looked for", "error", err)
	}
	for i := range list {
		q := &list[i]
		if to := (target{q.AccountID, q.KeyID}); !r.Pending(to.accountID, to.keyID) {
			r.join(q.Actor(), to, true)
		}
	}
}

// Pending reports whether a revocation of the key is under way here: whatever the database says of it is not certain yet. Of
// a key that was read from the database before Pending says false, it is, unless the record says otherwise.
func (r *Revoker) Pending(accountID, keyID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.underWay[target{accountID, keyID}] != nil
}

// InDoubt returns how many revocations are in doubt here: tried with an unknown
// outcome.
func (r *Revoker) InDoubt() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inDoubt
}

// Closed reports whether Close was called, so that nothing more is tried here.
func (r *Revoker) Closed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Close ends the trying, waits until ctx ends for tries that are out, and logs
// which keys remain in doubt. A later RevokeKey is stored and tried once.
func (r *Revoker) Close(ctx context.Context) {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.stop)
	}
	r.mu.Unlock()
	ended := make(chan struct{})
	go func() { r.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	var left []string
	r.mu.Lock()
	for to := range r.underWay {
		left = append(left, to.keyID)
	}
	r.mu.Unlock() // before the log, which may wait for its reader
	if len(left) > 0 {
		slices.Sort(left)
		r.cfg.Log.Warn("revocations are not confirmed: another replica goes on, or the next start; until then look at these keys",
			"keys", left)
	}
}

// join returns the revocation of the key that is under way, or starts it. It
// returns nil when there is no room. Half of the room is not for resumed ones.
func (r *Revoker) join(by models.Actor, to target, resumed bool) *task {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.underWay[to]; t != nil {
		select {
		case t.again <- struct{}{}:
		default:
		}
		return t
	}
	room := r.cfg.Max
	if resumed {
		room /= 2
	}
	if r.closed || len(r.underWay) >= room {
		return nil
	}
	t := &task{
		target: to, by: by, resumed: resumed,
		stored: make(chan struct{}), again: make(chan struct{}, 1), done: make(chan struct{}),
	}
	r.underWay[to] = t
	r.running.Go(func() { r.run(t) })
	return t
}
