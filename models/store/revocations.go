package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"cicosts/models"
)

// A revocation is in doubt from its request until its COMMIT has returned
// cleanly. All that time its row in revocation_requests is there to be seen by
// every replica:
//
//   - The request is committed before the first try and waits for no standby.
//   - Where COMMIT waits for no standby, the transaction that revokes deletes
//     the row, so both are visible at the same moment.
//   - Where COMMIT waits for a standby, a wait that is cut short leaves the
//     revocation visible, but a failover could still lose it. So the row is
//     deleted in a transaction of its own, after COMMIT has returned.

// RequestRevocation stores that by wants the key revoked, before RevokeKey is
// tried. It does not wait for standbys. Storing a request twice succeeds and
// keeps the first actor. A key that is revoked for certain gets no request.
//
// models.ErrNotFound where the account has no such key. With code "unavailable"
// it is unknown whether the request is stored, unless models.ErrNotChanged is
// in the chain.
func (s *Store) RequestRevocation(ctx context.Context, by models.Actor, accountID, keyID string) error {
	return s.change(ctx, "requesting a revocation", func(tx *gorm.DB, _ models.Instant) error {
		if err := s.makeLocal(tx); err != nil {
			return err
		}
		stored, err := s.insertRequest(tx, by, accountID, keyID, " AND k.revoked_at = 0")
		if err != nil || stored {
			return err
		}
		var id string
		return first(tx.Model(&models.APIKey{}).Select("id").Where("account_id = ? AND id = ?", accountID, keyID), &id)
	})
}

// insertRequest stores a request, unless there is one or the condition on the
// key k, which begins with AND, does not hold. It reports whether it did.
func (s *Store) insertRequest(tx *gorm.DB, by models.Actor, accountID, keyID, condition string) (bool, error) {
	res := tx.Exec(`INSERT INTO revocation_requests
			(key_id, account_id, requested_at, actor_type, actor_id, actor_label, ip)
		SELECT k.id, k.account_id, `+s.clock()+`, ?, ?, ?, ? FROM api_keys k
		WHERE k.account_id = ? AND k.id = ? AND NOT EXISTS
			(SELECT 1 FROM revocation_requests q WHERE q.key_id = k.id)`+condition+`
		ON CONFLICT DO NOTHING`, by.Type, by.ID, by.Label, by.IP, accountID, keyID)
	return res.RowsAffected == 1, res.Error
}

// DropRequest deletes the request of a revocation after which nothing is left
// to do. It waits for no standby, and deleting what is not there is no error.
func (s *Store) DropRequest(ctx context.Context, accountID, keyID string) error {
	return s.change(ctx, "dropping the request of a revocation", func(tx *gorm.DB, _ models.Instant) error {
		if err := s.makeLocal(tx); err != nil {
			return err
		}
		return dropRequest(tx, accountID, keyID)
	})
}

func dropRequest(tx *gorm.DB, accountID, keyID string) error {
	return tx.Where("account_id = ? AND key_id = ?", accountID, keyID).Delete(&models.RevocationRequest{}).Error
}

// maxRequests is the most that RevocationRequests returns.
const maxRequests = 500

// RevocationRequests returns requests that have been there for age, oldest
// first and at most 500. The process that stored one may have ended since.
// RevokeKey of such a key makes the revocation certain.
func (s *Store) RevocationRequests(ctx context.Context, age time.Duration) ([]models.RevocationRequest, error) {
	var list []models.RevocationRequest
	err := s.read.WithContext(ctx).Where("requested_at <= "+s.clock()+" - ?", age.Microseconds()).
		Order("requested_at, key_id").Limit(maxRequests).Find(&list).Error
	return list, classify("looking for revocations in doubt", err)
}

// RevokeKey revokes a key of the account and returns its record. A nil error
// says that the revocation is committed and that no later lookup, on any
// replica, finds the key alive. With code "unavailable" the outcome is unknown.
// Revoking a key twice succeeds and keeps the first time. models.ErrNotFound if
// the account has no such key.
func (s *Store) RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error) {
	ctx, cancel := detach(ctx)
	defer cancel()
	var waited bool
	err := s.change(ctx, "revoking a key", func(tx *gorm.DB, _ models.Instant) (err error) {
		waited, err = s.revoke(tx, by, accountID, keyID)
		return err
	})
	if err != nil {
		return models.KeyRecord{}, err
	}
	if waited {
		if err := s.DropRequest(ctx, accountID, keyID); err != nil {
			// The revocation looks uncertain until it is tried again.
			slog.Warn("a certain revocation was not noted as such", "key", keyID, "error", err)
		}
	}
	key, err := s.Key(ctx, accountID, keyID)
	if err == nil && key.RevokedAt.IsZero() {
		err = models.Unavailable(errMoved) // to a primary that was promoted meanwhile
	}
	if err != nil && !errors.Is(err, models.ErrNotFound) {
		return models.KeyRecord{}, models.Unavailable(err) // the key is revoked, though not for certain
	}
	key.Revoking = false
	return key, err
}

// revoke revokes a key. If the key is revoked already, it writes the row again,
// so that COMMIT waits for the earlier revocation too. It reports whether COMMIT
// waits for a standby. If so the request stays until COMMIT has returned.
func (s *Store) revoke(tx *gorm.DB, by models.Actor, accountID, keyID string) (waits bool, err error) {
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
	if waits, err = s.waitsForStandby(tx); err != nil {
		return false, err
	}
	if !waits {
		if err := dropRequest(tx, accountID, keyID); err != nil {
			return false, err
		}
	}
	if !key.RevokedAt.IsZero() {
		// An earlier try may have an unknown outcome. This COMMIT waits for it too.
		return waits, tx.Model(&key).Update("revoked_at", key.RevokedAt).Error
	}
	if waits { // also where a failover has lost the request
		if _, err := s.insertRequest(tx, by, accountID, keyID, ""); err != nil {
			return false, err
		}
	}
	res := tx.Model(&models.APIKey{}).Where("account_id = ? AND id = ? AND revoked_at = 0", accountID, keyID).
		Update("revoked_at", now)
	if res.Error != nil {
		return false, res.Error
	}
	if res.RowsAffected != 1 {
		return false, errors.New("the key changed under its lock")
	}
	return waits, event(tx, by, models.AuditEvent{
		AccountID: accountID, At: now, Action: models.ActionKeyRevoked, TargetID: keyID, Detail: key.Name,
	})
}

// makeDurable makes COMMIT answer only when the change is on disk, and on the
// synchronous standbys if there are any. It overrides the server's default.
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

// makeLocal makes COMMIT not wait for standbys. A wait that is cut short has
// committed all the same, so a caller that tries again would count twice.
func (s *Store) makeLocal(tx *gorm.DB) error {
	if s.dialect != postgres {
		return nil
	}
	return tx.Exec("SELECT set_config('synchronous_commit', 'local', true)").Error
}
