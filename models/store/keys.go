package store

import (
	"context"
	"errors"
	"fmt"

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
