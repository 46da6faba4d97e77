package revocation

import (
	"context"
	"errors"
	"strings"
	"time"

	"cicosts/models"
)

// run stores the request and tries it until the outcome is certain or Close.
func (r *Revoker) run(t *task) {
	if !t.resumed {
		if t.err = r.request(context.Background(), t.by, t.target); t.err != nil {
			r.end(t)
			return
		}
	}
	close(t.stored)
	if !r.first(t) && !r.retry(t) {
		return // and stays under way, for Close to name
	}
	if t.err == nil {
		r.confirmed(t.key, t.by)
	}
	r.end(t)
}

// request stores the request of a revocation. It tries that again while it
// fails, until Config.Storing has passed or ctx ends.
func (r *Revoker) request(ctx context.Context, by models.Actor, to target) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Storing)
	defer cancel()
	var unknown error // of a try that may have stored it
	for {
		err := r.cfg.Store.RequestRevocation(ctx, by, to.accountID, to.keyID)
		switch {
		case err == nil || errors.Is(err, models.ErrNotFound):
			return err
		case models.CodeOf(err) == models.CodeUnavailable:
		case unknown != nil: // a defect does not tell how the try before it ended
			return models.RevocationUnknown(unknown)
		default:
			return err
		}
		if unknown == nil && !errors.Is(err, models.ErrNotChanged) {
			unknown = err
		}
		select {
		case <-time.After(requestPause):
			continue
		case <-ctx.Done():
		case <-r.stop:
		}
		if unknown != nil {
			return models.RevocationUnknown(unknown)
		}
		return models.NotRevoked(err)
	}
}

// drop deletes a request, and reports whether it is gone for certain.
func (r *Revoker) drop(to target) bool {
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	err := r.cfg.Store.DropRequest(ctx, to.accountID, to.keyID)
	if err != nil {
		r.cfg.Log.Error("the request of a revocation that failed was not dropped, so it is tried again",
			"key", to.keyID, "error", err)
	}
	return err == nil
}

// end forgets a task and tells its callers.
func (r *Revoker) end(t *task) {
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

// confirmed logs a revocation before a caller is told of it, so that the log
// still has it if a failover loses it.
func (r *Revoker) confirmed(key models.KeyRecord, by models.Actor) {
	r.cfg.Log.Info(ConfirmedMessage, "key", key.ID, "account", key.AccountID, "revoked_at", key.RevokedAt.Time(),
		"asked_by", strings.TrimSpace(string(by.Type)+" "+by.ID))
}

// first tries for the first time, and reports whether the outcome is certain.
func (r *Revoker) first(t *task) bool {
	slots := r.firsts
	if t.resumed {
		slots = r.retries
	}
	select {
	case slots <- struct{}{}:
	case <-r.stop:
		r.setDoubt(t)
		return false
	}
	err := r.try(t)
	<-slots
	if err == nil || errors.Is(err, models.ErrNotFound) {
		return true
	}
	// A defect in the first try leaves the key as it was. A later one does not
	// tell how the first try ended. If a caller was told that it is tried again,
	// it must be, so the retry stores the request again.
	if models.CodeOf(err) != models.CodeUnavailable && !t.resumed && r.drop(t.target) && r.settle(t) {
		return true
	}
	r.setDoubt(t)
	r.cfg.Log.Warn("a revocation is in doubt: trying again", "key", t.keyID, "error", err)
	return false
}

// retry reports whether the outcome became certain.
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
		err := r.tryAgain(t)
		<-r.retries
		if err == nil || errors.Is(err, models.ErrNotFound) {
			return true
		}
		r.cfg.Log.Debug("a revocation is still in doubt", "key", t.keyID, "error", err)
	}
}

// tryAgain tries once more. It stores the request again first, which a failover
// may have lost.
func (r *Revoker) tryAgain(t *task) error {
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	if err := r.cfg.Store.RequestRevocation(ctx, t.by, t.accountID, t.keyID); err != nil {
		t.err = err
		return err
	}
	return r.try(t)
}

// try asks the store once, for its own time: a caller that has left must not cut it short.
func (r *Revoker) try(t *task) error {
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	t.key, t.err = r.cfg.Store.RevokeKey(ctx, t.by, t.accountID, t.keyID)
	return t.err
}

// setDoubt reports whether the task is in doubt, which it makes it unless its
// outcome is known.
func (r *Revoker) setDoubt(t *task) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.doubt && !t.settled && r.underWay[t.target] == t {
		t.doubt = true
		r.inDoubt++
	}
	return t.doubt
}

// settle keeps callers from being told that the task is in doubt, and reports
// whether none was told so before.
func (r *Revoker) settle(t *task) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.settled = !t.doubt
	return t.settled
}
