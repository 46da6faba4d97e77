package store

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"cicosts/models"
	"cicosts/models/keytext"
)

// LookupAnywhere looks keys up on whatever server the pool leads to, as a pooler may lead an open connection to another
// server than the one it was made to.
func LookupAnywhere(ctx context.Context, pool *pgxpool.Pool, hashes []keytext.Hash) ([]models.KeyState, error) {
	var anywhere atomic.Pointer[pools]
	anywhere.Store(&pools{lookups: pool})
	found, err := (&postgresLookup{pools: &anywhere}).keysByHash(ctx, hashes, false, nil)
	return found, classify("looking keys up", err)
}

// NoteTimeline does once what RecordTimelines does until Close.
func (s *Store) NoteTimeline(ctx context.Context) error { return s.noteTimeline(ctx) }

// Standbys returns which standbys commits wait for, by the primary's word, and how many the watcher has seen.
func (s *Store) Standbys() (names string, hosts int) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	return s.watch.view.StandbyNames, s.watch.view.StandbyHosts
}

// Followed returns the timeline of the primary that the store follows and whether its replication is synchronous.
func (s *Store) Followed() (timeline int64, synchronous bool) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	return s.watch.history.Timeline, s.watch.view.synchronous()
}

// KeepSession does what Visitor does once a minute, with more patience.
func (s *Store) KeepSession(ctx context.Context, hash []byte) error { return s.keepSession(ctx, hash) }
