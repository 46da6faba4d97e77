package store

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"cicosts/models"
)

// event adds one line to the history, in the transaction of the change it tells of.
func event(tx *gorm.DB, by models.Actor, e models.AuditEvent) error {
	e = lineOf(by, e)
	return tx.Create(&e).Error
}

// lineOf completes a line of the history: its id, and by whom it was.
func lineOf(by models.Actor, e models.AuditEvent) models.AuditEvent {
	e.ID = models.NewID(models.EventIDPrefix)
	e.ActorType, e.ActorID, e.ActorLabel, e.IP = by.Type, by.ID, by.Label, by.IP
	return e
}

// RecordEvent adds a line that tells of no change, such as a refused sign-in, to the history of the actor's account. It
// does the same work where there is none, so that its time does not tell whether the actor exists.
func (s *Store) RecordEvent(ctx context.Context, by models.Actor, action models.Action) error {
	return s.change(ctx, "recording an event", func(tx *gorm.DB, now models.Instant) error {
		if err := s.makeLocal(tx); err != nil { // it confirms nothing to anybody
			return err
		}
		var m models.Membership
		err := first(tx.Model(&m).Where("user_id = ?", by.ID).Order("created_at, account_id"), &m)
		if err != nil && !errors.Is(err, models.ErrNotFound) {
			return err
		}
		return event(tx, by, models.AuditEvent{AccountID: m.AccountID, At: now, Action: action, TargetID: by.ID})
	})
}

// maxHistory is the most lines that History returns.
const maxHistory = 100

// History returns what happened to a key or a person of the account, newest first, at most 100 lines.
func (s *Store) History(ctx context.Context, accountID, targetID string) ([]models.AuditEvent, error) {
	var events []models.AuditEvent
	err := s.read.WithContext(ctx).Where("account_id = ? AND target_id = ?", accountID, targetID).
		Order("at DESC, id DESC").Limit(maxHistory).Find(&events).Error
	return events, classify("reading the history", err)
}
