package store

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cicosts/models"
)

// secretsLock is held while the secrets in use are compared with those given.
const secretsLock = "secrets"

// HasSecrets reports whether keys or cookies of this database depend on a secret already.
func (s *Store) HasSecrets(ctx context.Context) (bool, error) {
	var n int64
	err := s.read.WithContext(ctx).Table("secrets").Limit(1).Count(&n).Error
	return n > 0, classify("reading the secrets' fingerprints", err)
}

// UseSecrets compares the fingerprints of the given secrets, newest first, with those the database depends on, and adds
// the newest to them. It refuses to go on without a secret in use: the one that was newest last, or one under which a key
// that is not revoked was hashed. Without it such keys would look unknown.
func (s *Store) UseSecrets(ctx context.Context, given []string) error {
	return s.change(ctx, "checking the secret", func(tx *gorm.DB, now models.Instant) error {
		if err := s.lockName(tx, secretsLock); err != nil {
			return err
		}
		inUse, err := secretsInUse(tx)
		if err != nil {
			return err
		}
		if missing := without(inUse, given); len(missing) > 0 {
			return fmt.Errorf("the database uses a secret that was not given (fingerprint %s; given: %s); set CICOSTS_SECRET to the secret it was started with, newest first",
				strings.Join(missing, ", "), strings.Join(given, ", "))
		}
		return tx.Clauses(clause.OnConflict{DoNothing: true}).Table("secrets").
			Create(map[string]any{"id": given[0], "first_used_at": now}).Error
	})
}
