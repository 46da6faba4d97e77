package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"gorm.io/gorm"

	"cicosts/models"
)

// CreateKey stores a key's record and sets its CreatedAt and ExpiresAt from the clock of the change. models.ErrConflict
// says that the form with this FormToken has made its key already: KeyOfForm finds it.
func (s *Store) CreateKey(ctx context.Context, by models.Actor, key models.APIKey, expiry models.Expiry) (models.APIKey, error) {
	err := s.change(ctx, "creating a key", func(tx *gorm.DB, now models.Instant) error {
		key.CreatedAt, key.ExpiresAt = now, expiry.From(now)
		if err := tx.Create(&key).Error; err != nil {
			return err
		}
		if err := tx.Create(gramsOf(&key)).Error; err != nil {
			return err
		}
		return event(tx, by, models.AuditEvent{
			AccountID: key.AccountID, At: now, Action: models.ActionKeyCreated, TargetID: key.ID,
			Detail: fmt.Sprintf("%s, %s: %s", key.Name, key.Mode, key.Permissions),
		})
	})
	return key, err
}

// KeyOfForm returns the id of the key that the form with this token made.
func (s *Store) KeyOfForm(ctx context.Context, accountID, formToken string) (string, error) {
	var id string
	err := first(s.read.WithContext(ctx).Model(&models.APIKey{}).Select("id").
		Where("account_id = ? AND form_token = ?", accountID, formToken), &id)
	return id, classify("finding the key of a form", err)
}

// RevokeKey revokes a key of the account and returns its record. A nil error says that the revocation is committed and
// that no later lookup, on any replica, finds the key alive. Code "unavailable" says that nobody knows: ask again, for
// revoking a key twice is no error and keeps the first time. models.ErrNotFound where the account has no such key.
func (s *Store) RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error) {
	ctx, cancel := detach(ctx)
	defer cancel()
	var uncertain bool
	err := s.change(ctx, "revoking a key", func(tx *gorm.DB, _ models.Instant) (err error) {
		uncertain, err = s.revoke(tx, by, accountID, keyID)
		return err
	})
	if err != nil {
		return models.KeyRecord{}, err
	}
	if uncertain {
		s.noteCertain(ctx, accountID, keyID)
	}
	key, err := s.Key(ctx, accountID, keyID)
	if err == nil && key.RevokedAt.IsZero() { // on a primary that was promoted meanwhile
		return models.KeyRecord{}, models.Unavailable(errMoved)
	}
	key.RevocationUncertain = false
	return key, err
}

// noteCertain notes that a revocation is certain, without waiting for a standby. Where that fails the revocation looks
// uncertain until it is tried again, as what UncertainRevocations lists is.
func (s *Store) noteCertain(ctx context.Context, accountID, keyID string) {
	err := s.change(ctx, "noting that a revocation is certain", func(tx *gorm.DB, _ models.Instant) error {
		if err := s.makeLocal(tx); err != nil {
			return err
		}
		return tx.Model(&models.APIKey{}).Where("account_id = ? AND id = ?", accountID, keyID).Update("revocation_uncertain", false).Error
	})
	if err != nil {
		slog.Warn("a certain revocation was not noted as such", "key", keyID, "error", err)
	}
}

// UncertainRevocations returns the account and id of keys whose revocation is in the database but not known to survive a
// failover: whoever confirmed it gave up, or ended. To revoke such a key again makes it certain.
func (s *Store) UncertainRevocations(ctx context.Context) ([]models.APIKey, error) {
	var keys []models.APIKey
	err := s.read.WithContext(ctx).Model(&models.APIKey{}).Select("account_id, id").Where("revocation_uncertain").Limit(1000).Scan(&keys).Error
	return keys, classify("looking for uncertain revocations", err)
}

// revoke revokes a key, or has its COMMIT wait for what a revocation before had to wait for. It reports whether the row is
// left saying that the revocation is uncertain, until COMMIT has returned cleanly.
func (s *Store) revoke(tx *gorm.DB, by models.Actor, accountID, keyID string) (uncertain bool, err error) {
	if err := s.makeDurable(tx); err != nil {
		return false, err
	}
	// Revocations of one key take turns. ChangeByKey holds this lock shared, so that no effect of the key commits after us.
	if err := s.lockName(tx, keyID); err != nil {
		return false, err
	}
	now := models.At(s.now()) // not before what the lock has waited for
	var key models.APIKey
	if err := first(tx.Model(&key).Where("account_id = ? AND id = ?", accountID, keyID), &key); err != nil {
		return false, err
	}
	if !key.RevokedAt.IsZero() {
		// Perhaps by a try whose end nobody knows. Writing the row again has this COMMIT wait for that one too.
		return key.RevocationUncertain, tx.Model(&key).Update("revoked_at", key.RevokedAt).Error
	}
	if uncertain, err = s.waitsForStandby(tx); err != nil {
		return false, err
	}
	res := tx.Model(&models.APIKey{}).Where("account_id = ? AND id = ? AND revoked_at = 0", accountID, keyID).
		Updates(map[string]any{"revoked_at": now, "revocation_uncertain": uncertain})
	if res.Error != nil {
		return false, res.Error
	}
	if res.RowsAffected != 1 {
		return false, errors.New("the key changed under its lock")
	}
	return uncertain, event(tx, by, models.AuditEvent{
		AccountID: accountID, At: now, Action: models.ActionKeyRevoked, TargetID: keyID, Detail: key.Name,
	})
}

// makeDurable has COMMIT answer only when the change is on disk, and on the synchronous standbys where there are any,
// whatever the server's default.
func (s *Store) makeDurable(tx *gorm.DB) error {
	if s.dialect != postgres {
		return nil // every connection has synchronous=FULL
	}
	return tx.Exec("SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') <> 'remote_apply'").Error
}

// waitsForStandby reports whether COMMIT waits for synchronous standbys.
func (s *Store) waitsForStandby(tx *gorm.DB) (bool, error) {
	if s.dialect != postgres {
		return false, nil
	}
	var names string
	err := tx.Raw("SELECT current_setting('synchronous_standby_names')").Scan(&names).Error
	return names != "", err
}

// makeLocal has COMMIT wait for no standby: who gives that up has committed all the same, and would add what was counted
// up once more.
func (s *Store) makeLocal(tx *gorm.DB) error {
	if s.dialect != postgres {
		return nil
	}
	return tx.Exec("SELECT set_config('synchronous_commit', 'local', true)").Error
}

// RevokeAnyKey revokes a key of whatever account, for an operator. Errors as RevokeKey.
func (s *Store) RevokeAnyKey(ctx context.Context, by models.Actor, keyID string) (models.KeyRecord, error) {
	var accountID string
	err := first(s.read.WithContext(ctx).Model(&models.APIKey{}).Select("account_id").Where("id = ?", keyID), &accountID)
	if err != nil {
		return models.KeyRecord{}, classify("finding a key", err)
	}
	return s.RevokeKey(ctx, by, accountID, keyID)
}

// NameInUse reports whether an active key of the account has a name that looks
// like this one: case and invisible characters do not count. A key stored before
// models.FoldName counts with the invisible characters of its name.
func (s *Store) NameInUse(ctx context.Context, accountID, name string) (bool, error) {
	var id string
	err := first(s.read.WithContext(ctx).Model(&models.APIKey{}).Select("id").
		Where("account_id = ? AND name_folded IN ? AND "+activeKeys, accountID, models.NameFolds(name), models.At(s.now())), &id)
	if errors.Is(err, models.ErrNotFound) {
		return false, nil
	}
	return err == nil, classify("looking for a name", err)
}
