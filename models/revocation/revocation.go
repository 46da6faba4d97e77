// Package revocation sees revocations through. A revocation whose end nobody knows, since the database did not confirm it,
// is in doubt: its caller is told so, and it is tried again until it is certain. A process that ends forgets what is in doubt,
// which was never confirmed to anybody; what of it has got into the database is taken up by Resume.
package revocation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cicosts/models"
)

// Store revokes keys. Trying again must be harmless: one line in the history in the end, and the first time kept.
type Store interface {
	// RevokeKey returns nil only when the revocation is certain, and code "unavailable" when nobody knows.
	RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error)
	// UncertainRevocations returns the account and id of keys that are revoked, but not for certain.
	UncertainRevocations(ctx context.Context) ([]models.APIKey, error)
}

// Config says how to revoke. Zero values mean the defaults.
type Config struct {
	Store Store
	// Patience is how long a caller waits, or until its context ends: 3 s. The tries go on without it.
	Patience time.Duration
	// Pause is the time after the first try, doubled after each further one up to MaxPause: 500 ms and 5 s.
	Pause, MaxPause time.Duration
	// Max is how many revocations may be under way: 1,000. One beyond is tried once, while its caller waits.
	Max int
	// Log is told of what is in doubt; nil means slog.Default.
	Log *slog.Logger
}

const (
	// tryTimeout bounds one try.
	tryTimeout = 5 * time.Second
	// maxRetries is how many keys are tried again at once, so that a database that hangs keeps connections for others.
	maxRetries = 2
	// resumeEvery is how often Resume looks.
	resumeEvery = 10 * time.Second
)

// Revoker revokes keys. It is safe for concurrent use.
type Revoker struct {
	cfg     Config
	retries chan struct{}  // holds one for each retry under way
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
	by    models.Actor  // who asked first
	doubt bool          // a try has ended with nobody knowing, or somebody was told so; guarded by Revoker.mu
	again chan struct{} // cuts the pause short

	done chan struct{} // closed when key and err are set
	key  models.KeyRecord
	err  error
}

// New returns a Revoker. Close it to stop what it does in the background.
func New(cfg Config) *Revoker {
	cfg.Patience = cmp.Or(cfg.Patience, 3*time.Second)
	cfg.Pause = cmp.Or(cfg.Pause, 500*time.Millisecond)
	cfg.MaxPause = cmp.Or(cfg.MaxPause, 5*time.Second)
	cfg.Max = cmp.Or(cfg.Max, 1000)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Revoker{
		cfg: cfg, retries: make(chan struct{}, maxRetries), stop: make(chan struct{}), underWay: map[target]*task{},
	}
}

// RevokeKey revokes a key of the account and returns its record; who joins a revocation under way shares its end. A nil
// error says that the revocation is certain. Code "unavailable" says that it is in doubt: the key may still work, and it
// is tried again, whatever becomes of ctx, until it is certain, the account turns out to have no such key, or Close.
// Other errors are the store's, as models.ErrNotFound.
func (r *Revoker) RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Patience)
	defer cancel()
	t := r.join(by, target{accountID, keyID})
	if t == nil {
		key, err := r.cfg.Store.RevokeKey(ctx, by, accountID, keyID)
		if err == nil {
			r.confirmed(key, by)
		}
		return key, err
	}
	select {
	case <-t.done:
		return t.key, t.err
	case <-ctx.Done():
		r.setDoubt(t)
		return models.KeyRecord{}, models.Unavailable(fmt.Errorf("revoking key %s is in doubt: %w", keyID, ctx.Err()))
	}
}

// Resume takes up revocations that are in the database but that nobody has made certain, as their process has ended. It
// looks now and then until Close.
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
	keys, err := r.cfg.Store.UncertainRevocations(ctx)
	if err != nil {
		r.cfg.Log.Debug("uncertain revocations were not looked for", "error", err)
	}
	for _, key := range keys {
		r.join(models.Program, target{key.AccountID, key.ID})
	}
}

// Pending reports whether a revocation of the key is under way here: whatever the database says of it is not certain yet. Of
// a key that was read from the database before Pending says false, it is, unless the record says otherwise.
func (r *Revoker) Pending(accountID, keyID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.underWay[target{accountID, keyID}] != nil
}

// InDoubt returns how many revocations are in doubt: tried without getting to know their end.
func (r *Revoker) InDoubt() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inDoubt
}

// Close ends the trying, waits until ctx ends for tries that are out, and logs which keys remain in doubt. A later
// RevokeKey is tried once.
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
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []string
	for to := range r.underWay {
		left = append(left, to.keyID)
	}
	if len(left) > 0 {
		slices.Sort(left)
		r.cfg.Log.Warn("revocations were never confirmed: revoke these keys again", "keys", left)
	}
}

// join returns the revocation of the key that is under way, or starts it. It returns nil when there is no room.
func (r *Revoker) join(by models.Actor, to target) *task {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.underWay[to]; t != nil {
		select {
		case t.again <- struct{}{}:
		default:
		}
		return t
	}
	if r.closed || len(r.underWay) >= r.cfg.Max {
		return nil
	}
	t := &task{target: to, by: by, again: make(chan struct{}, 1), done: make(chan struct{})}
	r.underWay[to] = t
	r.running.Go(func() { r.run(t) })
	return t
}

// run tries until it is certain what has become of the key, or until Close.
func (r *Revoker) run(t *task) {
	err := r.try(t)
	if models.CodeOf(err) == models.CodeUnavailable {
		r.setDoubt(t)
		r.cfg.Log.Warn("a revocation is in doubt: trying again", "key", t.keyID, "error", err)
		if !r.retry(t) {
			return // and stays under way, for Close to name
		}
	}
	if t.err == nil {
		r.confirmed(t.key, t.by)
	}
	r.mu.Lock()
	delete(r.underWay, t.target)
	doubted := t.doubt
	if doubted {
		r.inDoubt--
	}
	r.mu.Unlock()
	if doubted && t.err != nil {
		r.cfg.Log.Info("a revocation is no longer in doubt: the key is not revoked", "key", t.keyID, "error", t.err)
	}
	close(t.done)
}

// confirmed logs a revocation before anybody is told of it, so that it is known where the database has forgotten it after a
// failover.
func (r *Revoker) confirmed(key models.KeyRecord, by models.Actor) {
	r.cfg.Log.Info("revocation confirmed", "key", key.ID, "account", key.AccountID, "revoked_at", key.RevokedAt.Time(),
		"asked_by", string(by.Type)+" "+by.ID)
}

// retry reports whether it became certain what has become of the key.
func (r *Revoker) retry(t *task) bool {
	for pause := r.cfg.Pause; ; pause = min(2*pause, r.cfg.MaxPause) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-t.again:
			timer.Stop()
		case <-r.stop:
			timer.Stop()
			return false
		}
		select {
		case r.retries <- struct{}{}:
		case <-r.stop:
			return false
		}
		err := r.try(t)
		<-r.retries
		if err == nil || errors.Is(err, models.ErrNotFound) {
			return true
		}
		r.cfg.Log.Debug("a revocation is still in doubt", "key", t.keyID, "error", err)
	}
}

// try asks the store once, for its own time: a caller that has left must not cut it short.
func (r *Revoker) try(t *task) error {
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	t.key, t.err = r.cfg.Store.RevokeKey(ctx, t.by, t.accountID, t.keyID)
	return t.err
}

func (r *Revoker) setDoubt(t *task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.doubt && r.underWay[t.target] == t {
		t.doubt = true
		r.inDoubt++
	}
}
