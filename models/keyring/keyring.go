// Package keyring answers whether an API key works, by asking the primary database for every request. There is no cache
// of accepted keys: that is why a revoked key is refused from the moment its revocation is confirmed, on every replica.
//
// What makes this affordable is that lookups are coalesced. Requests that arrive while a query is on its way wait for the
// next one, and one statement answers them all. A request joins only a batch that has not been sent, so its answer comes
// from a snapshot taken after the request arrived: nothing is stale, and no clock or notification has to be trusted.
//
// The package never keeps, logs or returns a key's text.
package keyring

import (
	"context"
	"errors"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
)

// ErrUnavailable says that nobody knows: the database did not answer in time.
var ErrUnavailable = errors.New("the key could not be checked")

// Source is the primary database.
type Source interface {
	// KeysByHash appends the state of every key whose hash is among hashes,
	// from a snapshot taken after the call began. With describe each state
	// has a Description of that snapshot. When ctx ends, it must return at
	// once.
	KeysByHash(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error)
}

// Config says where to look and for how long. Zero values mean the defaults.
type Config struct {
	Source Source
	// Hashers hash a text under each secret in use, newest first. At least one.
	Hashers []*keytext.Hasher
	// Timeout is how long a Verify may take in all, one retry included: 500 ms.
	Timeout time.Duration
	// HedgeAfter is how long a statement may take before it is sent once more beside it, on another connection: 200 ms.
	HedgeAfter time.Duration
	// SecondAfter is how long a batch must have been out before others may be sent beside it, one at a time: 20 ms.
	SecondAfter time.Duration
	// MaxBatch is the most keys in one statement: 512.
	MaxBatch int
	// MaxWaiting is the most requests that wait at once; more are answered ErrUnavailable at once: 20,000.
	MaxWaiting int
}

// Keyring verifies keys. It is safe for concurrent use.
type Keyring struct {
	cfg     Config
	batches batcher
}

// New returns a Keyring. It starts nothing that would have to be closed: a batch lasts only as long as its statement.
func New(cfg Config) *Keyring {
	defaultTo(&cfg.Timeout, 500*time.Millisecond)
	defaultTo(&cfg.HedgeAfter, 200*time.Millisecond)
	defaultTo(&cfg.SecondAfter, 20*time.Millisecond)
	defaultTo(&cfg.MaxBatch, 512)
	defaultTo(&cfg.MaxWaiting, 20_000)
	k := &Keyring{cfg: cfg}
	k.batches.init(&k.cfg)
	return k
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Verify returns for whom the bearer of the text acts. It blocks for at most Config.Timeout. A text that cannot be a key
// is refused without a look at the database.
//
// It returns keytext.ErrMalformed, keytext.ErrChecksum, models.ErrKeyUnknown, models.ErrKeyRevoked, models.ErrKeyExpired,
// or ErrUnavailable or the error of ctx where nobody knows. With the keys that are revoked or expired the Principal is filled, so that the refused use can be counted; it authorises nothing.
func (k *Keyring) Verify(ctx context.Context, text string) (models.Principal, error) {
	return k.check(ctx, text, false)
}

// Describe is Verify for a Principal with a Description, which is of the
// snapshot that the key was checked in. It makes the batch that it joins
// slower, and sends no statement of its own.
func (k *Keyring) Describe(ctx context.Context, text string) (models.Principal, error) {
	return k.check(ctx, text, true)
}

func (k *Keyring) check(ctx context.Context, text string, describe bool) (models.Principal, error) {
	secret, err := keytext.Parse(text)
	if err != nil {
		return models.Principal{}, err
	}
	var hashes [4]keytext.Hash
	presented := hashes[:0]
	for _, h := range k.cfg.Hashers {
		presented = append(presented, h.Hash(secret))
	}
	state, err := k.batches.lookup(ctx, presented, describe)
	if err != nil {
		return models.Principal{}, err
	}
	p := models.Principal{
		KeyID: state.ID, AccountID: state.AccountID, Mode: state.Mode, Permissions: state.Permissions, ExpiresAt: state.ExpiresAt,
	}
	if describe {
		p.Description = state.Description
	}
	switch models.StatusAt(state.ExpiresAt, state.RevokedAt, state.Now) {
	case models.StatusRevoked:
		return p, models.ErrKeyRevoked
	case models.StatusExpired:
		return p, models.ErrKeyExpired
	}
	return p, nil
}
