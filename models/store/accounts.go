package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"cicosts/models"
)

// peopleLock is held while people come to be, so that the first owner is made once, on whatever replica.
const peopleLock = "people"

// HasUsers reports whether anybody can sign in.
func (s *Store) HasUsers(ctx context.Context) (bool, error) {
	var n int64
	err := s.read.WithContext(ctx).Model(&models.User{}).Limit(1).Count(&n).Error
	return n > 0, classify("counting the users", err)
}

// AddSetupToken stores the hash of a one-time setup token. It is good until the first owner exists.
func (s *Store) AddSetupToken(ctx context.Context, hash []byte) error {
	return s.change(ctx, "storing a setup token", func(tx *gorm.DB, now models.Instant) error {
		return tx.Table("setup_tokens").Create(map[string]any{"hash": hash, "created_at": now}).Error
	})
}

// CheckSetupToken returns nil while the token with this hash can make the first
// owner, models.ErrSetupDone when an owner exists, and models.ErrSetupLink for an
// unknown token.
func (s *Store) CheckSetupToken(ctx context.Context, hash []byte) error {
	return classify("checking a setup token", checkSetupToken(s.read.WithContext(ctx), hash))
}

func checkSetupToken(db *gorm.DB, hash []byte) error {
	var tokens, owners int64
	if err := db.Table("setup_tokens").Where("hash = ?", hash).Count(&tokens).Error; err != nil {
		return err
	}
	if err := db.Model(&models.Membership{}).Where("role = ?", models.RoleOwner).Count(&owners).Error; err != nil {
		return err
	}
	if owners > 0 {
		return models.ErrSetupDone
	}
	if tokens == 0 {
		return models.ErrSetupLink
	}
	return nil
}

// CreateFirstOwner makes the account and its owner, once, and ends every setup
// token. Errors as CheckSetupToken.
func (s *Store) CreateFirstOwner(ctx context.Context, tokenHash []byte, u models.NewUser, ip string) (models.Visitor, error) {
	u.Role = models.RoleOwner
	var v models.Visitor
	err := s.change(ctx, "creating the first owner", func(tx *gorm.DB, now models.Instant) error {
		if err := s.lockName(tx, peopleLock); err != nil {
			return err
		}
		if err := checkSetupToken(tx, tokenHash); err != nil {
			return err
		}
		if err := tx.Exec("DELETE FROM setup_tokens").Error; err != nil {
			return err
		}
		var err error
		if v, err = addUser(tx, u, now); err != nil {
			return err
		}
		by := models.Actor{Type: models.ActorUser, ID: v.UserID, Label: v.Email, IP: ip}
		return event(tx, by, models.AuditEvent{AccountID: v.AccountID, At: now, Action: models.ActionSetup, TargetID: v.UserID})
	})
	return v, err
}

// AddUser makes a user in the named account, and the account when there is none. An e-mail address that exists is an
// Error beside the field "email".
func (s *Store) AddUser(ctx context.Context, by models.Actor, u models.NewUser) (models.Visitor, error) {
	var v models.Visitor
	err := s.change(ctx, "adding a user", func(tx *gorm.DB, now models.Instant) error {
		if err := s.lockName(tx, peopleLock); err != nil {
			return err
		}
		var err error
		if v, err = addUser(tx, u, now); err != nil {
			return err
		}
		return event(tx, by, models.AuditEvent{
			AccountID: v.AccountID, At: now, Action: models.ActionUserAdded, TargetID: v.UserID, Detail: fmt.Sprintf("%s as %s", v.Email, v.Role),
		})
	})
	return v, err
}

func addUser(tx *gorm.DB, u models.NewUser, now models.Instant) (models.Visitor, error) {
	account, err := accountByName(tx, u.Account)
	if errors.Is(err, models.ErrNotFound) {
		account = models.Account{
			ID: models.NewID(models.AccountIDPrefix), Name: u.Account, NameFolded: models.FoldName(u.Account),
			Plan: models.PlanTeam, CreatedAt: now,
		}
		err = tx.Create(&account).Error
	}
	if err != nil {
		return models.Visitor{}, err
	}
	user := models.User{
		ID: models.NewID(models.UserIDPrefix), Email: u.Email, EmailFolded: models.Fold(u.Email),
		PasswordHash: u.PasswordHash, CreatedAt: now,
	}
	if err := tx.Create(&user).Error; errors.Is(err, gorm.ErrDuplicatedKey) {
		return models.Visitor{}, models.Invalid("email", fmt.Sprintf("A user with the e-mail address %s exists already.", u.Email))
	} else if err != nil {
		return models.Visitor{}, err
	}
	member := models.Membership{AccountID: account.ID, UserID: user.ID, Role: u.Role, CreatedAt: now}
	return models.Visitor{
		UserID: user.ID, Email: user.Email, AccountID: account.ID, AccountName: account.Name, Role: u.Role,
	}, tx.Create(&member).Error
}

// UserByEmail finds who may sign in with an address, without regard to case.
func (s *Store) UserByEmail(ctx context.Context, email string) (models.User, error) {
	var u models.User
	err := first(s.read.WithContext(ctx).Model(&u).Where("email_folded = ?", models.Fold(email)), &u)
	return u, classify("finding a user", err)
}

// SetPassword replaces a user's password and ends all of the user's sessions.
func (s *Store) SetPassword(ctx context.Context, by models.Actor, email, passwordHash string) error {
	return s.change(ctx, "setting a password", func(tx *gorm.DB, now models.Instant) error {
		var u models.User
		if err := first(tx.Model(&u).Where("email_folded = ?", models.Fold(email)), &u); err != nil {
			return err
		}
		if err := tx.Model(&u).Update("password_hash", passwordHash).Error; err != nil {
			return err
		}
		if err := tx.Where("user_id = ?", u.ID).Delete(&models.Session{}).Error; err != nil {
			return err
		}
		var m models.Membership
		if err := first(tx.Model(&m).Where("user_id = ?", u.ID).Order("created_at, account_id"), &m); err != nil {
			return err
		}
		return event(tx, by, models.AuditEvent{AccountID: m.AccountID, At: now, Action: models.ActionPasswordReset, TargetID: u.ID})
	})
}

// maxManagers is the most people that KeyManagers names.
const maxManagers = 3

// KeyManagers returns the e-mail addresses of a few people who manage the
// account's keys, owners first.
func (s *Store) KeyManagers(ctx context.Context, accountID string) ([]string, error) {
	var emails []string
	err := s.read.WithContext(ctx).Table("memberships AS m").Select("u.email").Joins("JOIN users u ON u.id = m.user_id").
		Where("m.account_id = ? AND m.role IN (?, ?) AND u.disabled_at = 0", accountID, models.RoleOwner, models.RoleAdmin).
		Order("m.role DESC, m.created_at, u.id").Limit(maxManagers).Scan(&emails).Error
	return emails, classify("finding the key managers", err)
}

// AccountByName finds an account without regard to case or invisible characters.
func (s *Store) AccountByName(ctx context.Context, name string) (models.Account, error) {
	a, err := accountByName(s.read.WithContext(ctx), name)
	return a, classify("finding an account", err)
}

func accountByName(db *gorm.DB, name string) (models.Account, error) {
	var a models.Account
	var err error
	for _, folded := range slices.Backward(models.NameFolds(name)) { // an old account of exactly this name comes first
		if err = first(db.Model(&a).Where("name_folded = ?", folded), &a); !errors.Is(err, models.ErrNotFound) {
			break
		}
	}
	return a, err
}

// AccountByID finds an account.
func (s *Store) AccountByID(ctx context.Context, id string) (models.Account, error) {
	var a models.Account
	err := first(s.read.WithContext(ctx).Model(&a).Where("id = ?", id), &a)
	return a, classify("finding an account", err)
}
