package store

import (
	"context"
	"slices"

	"cicosts/models"
)

// AccountOfKey returns the id of the account that has the key, for an operator.
// models.ErrNotFound where there is no such key.
func (s *Store) AccountOfKey(ctx context.Context, keyID string) (string, error) {
	var accountID string
	err := first(s.read.WithContext(ctx).Model(&models.APIKey{}).Select("account_id").Where("id = ?", keyID), &accountID)
	return accountID, classify("finding a key", err)
}

// RevokedAt returns when a key of any account was revoked, zero if it was not,
// for an operator. It waits for no standby, so the revocation may not be
// certain yet; only RevokeKey tells. models.ErrNotFound where there is no
// such key.
func (s *Store) RevokedAt(ctx context.Context, keyID string) (models.Instant, error) {
	var at int64 // GORM scans no other integer alone
	err := first(s.read.WithContext(ctx).Model(&models.APIKey{}).Select("revoked_at").Where("id = ?", keyID), &at)
	return models.Instant(at), classify("finding a key", err)
}

// MissingSecrets returns the fingerprints of the secrets that the database
// depends on and that are not among given. Keys hashed under these look unknown.
func (s *Store) MissingSecrets(ctx context.Context, given []string) ([]string, error) {
	inUse, err := secretsInUse(s.read.WithContext(ctx))
	return without(inUse, given), classify("reading the secrets' fingerprints", err)
}

// without returns the elements of list that are not among given.
func without(list, given []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(given, s) })
}
