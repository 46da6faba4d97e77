package usage

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"cicosts/models"
)

// maxRefused is how many refused batches a flush sends in parts, so that a sink
// that refuses everything is not asked for each key.
const maxRefused = 50

// flush saves the frozen batches and then what is pending. On an error the rest
// is sent by the next flush.
func (r *Recorder) flush(ctx context.Context) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	if err := r.sendFrozen(ctx); err != nil {
		return err
	}
	r.freeze()
	return r.sendFrozen(ctx)
}

// freeze makes one batch of what is pending.
func (r *Recorder) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending.size() == 0 {
		return
	}
	uses := r.pending.uses()
	uses.ID = models.NewID(models.UsesIDPrefix)
	r.setFrozen(append(r.frozen, uses))
	r.pending.reset()
}

// setFrozen must be called with mu held.
func (r *Recorder) setFrozen(frozen []models.Uses) {
	r.frozen, r.frozenSize = frozen, 0
	for i := range frozen {
		r.frozenSize += len(frozen[i].Newest) + len(frozen[i].Counts) + len(frozen[i].Refusals)
	}
}

// sendFrozen sends the frozen batches. One that may have been saved stays first
// and unchanged. One that was refused is sent in parts, so that only the key at
// fault is dropped.
func (r *Recorder) sendFrozen(ctx context.Context) error {
	for refused := 0; ; {
		r.mu.Lock()
		frozen := r.frozen
		r.mu.Unlock()
		if len(frozen) == 0 {
			return nil
		}
		dropped, err := r.cfg.Sink.SaveUse(ctx, frozen[0])
		var parts []models.Uses
		switch {
		case err == nil:
			if dropped > 0 {
				slog.Warn("use of keys that the database does not have was dropped", "requests", dropped)
			}
		case models.CodeOf(err) == models.CodeUnavailable || refused == maxRefused:
			return err
		default:
			refused++
			if parts = split(frozen[0]); parts == nil {
				dropped = requests(frozen[0])
				slog.Error("use of a key was refused and dropped", "requests", dropped, "error", err)
			}
		}
		r.mu.Lock()
		r.setFrozen(slices.Concat(parts, frozen[1:]))
		r.dropped += dropped
		r.mu.Unlock()
	}
}

func requests(uses models.Uses) (n int64) {
	for _, c := range uses.Counts {
		n += c.Requests
	}
	return n
}

// split returns two batches, each with half of the keys, or nil where there is
// one key.
func split(uses models.Uses) []models.Uses {
	var keys []string // each key is counted
	for _, c := range uses.Counts {
		if len(keys) == 0 || c.KeyID != keys[len(keys)-1] {
			keys = append(keys, c.KeyID)
		}
	}
	if len(keys) < 2 {
		return nil
	}
	middle := keys[len(keys)/2]
	newest, _ := slices.BinarySearchFunc(uses.Newest, middle, func(u models.LastUse, id string) int { return cmp.Compare(u.KeyID, id) })
	counts, _ := slices.BinarySearchFunc(uses.Counts, middle, func(c models.DailyUse, id string) int { return cmp.Compare(c.KeyID, id) })
	sources, _ := slices.BinarySearchFunc(uses.Refusals, middle, func(r models.RefusalSource, id string) int { return cmp.Compare(r.KeyID, id) })
	return []models.Uses{
		{ID: models.NewID(models.UsesIDPrefix), Newest: uses.Newest[:newest], Counts: uses.Counts[:counts], Refusals: uses.Refusals[:sources]},
		{ID: models.NewID(models.UsesIDPrefix), Newest: uses.Newest[newest:], Counts: uses.Counts[counts:], Refusals: uses.Refusals[sources:]},
	}
}
