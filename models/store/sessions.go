package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cicosts/models"
)

// How long a session lasts: until nothing was asked for SessionIdle, and SessionAbsolute at the most.
const (
	SessionIdle     = 12 * time.Hour
	SessionAbsolute = 7 * 24 * time.Hour

	// sessionTouch is how old the newest sign of life may grow before it is written again: once a minute, not per click.
	sessionTouch  = time.Minute
	touchPatience = 250 * time.Millisecond
)

// StartSession signs a user in: it stores a session for the oldest of the
// user's accounts, ends the session before, and clears away sessions that are
// over. It returns models.ErrNotFound, and starts nothing, if the user is
// disabled or no longer has the password that was checked.
func (s *Store) StartSession(ctx context.Context, in models.SignIn) error {
	return s.change(ctx, "starting a session", func(tx *gorm.DB, now models.Instant) error {
		if err := s.makeLocal(tx); err != nil { // who has to see to a missing standby must get in
			return err
		}
		if err := s.holdPassword(tx, in.User); err != nil {
			return err
		}
		var m models.Membership
		if err := first(tx.Model(&m).Where("user_id = ?", in.User.ID).Order("created_at, account_id"), &m); err != nil {
			return err
		}
		over := tx.Where("created_at <= ? OR last_seen_at <= ? OR hash = ?", now.Add(-SessionAbsolute), now.Add(-SessionIdle), in.Before)
		if err := over.Delete(&models.Session{}).Error; err != nil {
			return err
		}
		session := models.Session{
			Hash: in.Hash, UserID: in.User.ID, AccountID: m.AccountID, CreatedAt: now, LastSeenAt: now, IP: in.IP, UserAgent: in.UserAgent,
		}
		if err := tx.Create(&session).Error; err != nil {
			return err
		}
		by := models.Actor{Type: models.ActorUser, ID: in.User.ID, Label: in.User.Email, IP: in.IP}
		return event(tx, by, models.AuditEvent{AccountID: m.AccountID, At: now, Action: models.ActionSignedIn, TargetID: in.User.ID})
	})
}

// holdPassword keeps the user's row from changing until the transaction ends.
// So a new password either is seen here, or waits and then ends the session that
// this transaction starts. SQLite has one writer. The error is
// models.ErrNotFound if the row has changed already.
func (s *Store) holdPassword(tx *gorm.DB, u models.User) error {
	q := tx.Table("users").Select("id").Where("id = ? AND password_hash = ? AND disabled_at = 0", u.ID, u.PasswordHash)
	if s.dialect == postgres {
		q = q.Clauses(clause.Locking{Strength: clause.LockingStrengthShare})
	}
	var id string
	return first(q, &id)
}

// Visitor returns who is signed in with the session of this hash, with the role of this moment, and keeps the session
// alive. models.ErrNotFound where the session is over, ended or unknown, or its user disabled or no longer a member.
func (s *Store) Visitor(ctx context.Context, hash []byte) (models.Visitor, error) {
	now := models.At(s.now())
	var row struct {
		models.Visitor
		LastSeenAt models.Instant
	}
	err := first(s.read.WithContext(ctx).Table("sessions AS s").
		Select("u.id AS user_id, u.email, a.id AS account_id, a.name AS account_name, m.role, s.last_seen_at").
		Joins("JOIN users u ON u.id = s.user_id").
		Joins("JOIN accounts a ON a.id = s.account_id").
		Joins("JOIN memberships m ON m.account_id = s.account_id AND m.user_id = s.user_id").
		Where("s.hash = ? AND s.created_at > ? AND s.last_seen_at > ? AND u.disabled_at = 0",
			hash, now.Add(-SessionAbsolute), now.Add(-SessionIdle)), &row)
	if err != nil {
		return models.Visitor{}, classify("reading the session", err)
	}
	if row.LastSeenAt <= now.Add(-sessionTouch) {
		s.touch(ctx, hash)
	}
	return row.Visitor, nil
}

// touch keeps a session alive. Reading a page must not fail or wait because the
// database takes no writes, so this may fail: the next page tries again.
func (s *Store) touch(ctx context.Context, hash []byte) {
	ctx, cancel := context.WithTimeout(ctx, touchPatience)
	defer cancel()
	if err := s.keepSession(ctx, hash); err != nil {
		slog.WarnContext(ctx, "a session was not kept alive", "error", err)
	}
}

// keepSession notes that a session is alive, without waiting for a standby.
func (s *Store) keepSession(ctx context.Context, hash []byte) error {
	return s.change(ctx, "keeping a session", func(tx *gorm.DB, now models.Instant) error {
		if err := s.makeLocal(tx); err != nil {
			return err
		}
		return tx.Model(&models.Session{}).Where("hash = ?", hash).Update("last_seen_at", now).Error
	})
}

// EndSession signs out, from the address ip. A session that is gone already is no error; one of a disabled user ends too.
func (s *Store) EndSession(ctx context.Context, hash []byte, ip string) error {
	return s.change(ctx, "ending a session", func(tx *gorm.DB, now models.Instant) error {
		if err := s.makeLocal(tx); err != nil { // it confirms nothing
			return err
		}
		var session struct {
			models.Session
			Email string
		}
		err := first(tx.Table("sessions AS s").Select(s.columns(&models.Session{}, "s")+", u.email").Joins("JOIN users u ON u.id = s.user_id").Where("s.hash = ?", hash), &session)
		if errors.Is(err, models.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		by := models.Actor{Type: models.ActorUser, ID: session.UserID, Label: session.Email, IP: ip}
		if err := tx.Where("hash = ?", hash).Delete(&models.Session{}).Error; err != nil {
			return err
		}
		return event(tx, by, models.AuditEvent{
			AccountID: session.AccountID, At: now, Action: models.ActionSignedOut, TargetID: session.UserID,
		})
	})
}
