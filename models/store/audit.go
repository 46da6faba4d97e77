package store

import (
	"context"

	"gorm.io/gorm"

	"cicosts/models"
)

// event adds one line to the history, in the transaction of the change it tells of.
func event(tx *gorm.DB, by models.Actor, e models.AuditEvent) error {
	e = lineOf(by, e)
	return tx.Create(&e).Error
}

// lineOf completes a line of the history of what happened once: its id, and by whom it was.
func lineOf(by models.Actor, e models.AuditEvent) models.AuditEvent {
	e.ID = models.NewID(models.EventIDPrefix)
	e.ActorType, e.ActorID, e.ActorLabel, e.IP = by.Type, by.ID, by.Label, by.IP
	e.Times = 1
	return e
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
