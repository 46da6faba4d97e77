package store

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"cicosts/models"
)

// The most lines about refused sign-ins that an account's history gets in one
// minute. They are RefusedSignInLines in all.
const (
	ownLines        = 20 // a refusal each
	ownLinesNetwork = 5  // of these from one network
	networkLines    = 10 // the other refusals from one network each

	// RefusedSignInLines includes one line for the refusals from all other
	// networks.
	RefusedSignInLines = ownLines + networkLines + 1
)

// The details of the lines that sum up.
const (
	moreOfNetwork = "further attempts in the same minute"
	moreOfOthers  = "further attempts in the same minute, from several networks"
)

// RecordRefusedSignIn adds a refused sign-in to the history of the actor's
// account, or of no account for an unknown user. The first few of a network and
// minute have a line each. The others are counted in one line of the network,
// and from many networks in one line for all of them, so that a flood of
// attempts adds at most RefusedSignInLines a minute. It does the same work for
// an unknown user, so its time does not tell whether the actor exists.
func (s *Store) RecordRefusedSignIn(ctx context.Context, by models.Actor) error {
	return s.change(ctx, "recording a refused sign-in", func(tx *gorm.DB, _ models.Instant) error {
		if err := s.makeLocal(tx); err != nil { // it confirms nothing
			return err
		}
		var m models.Membership
		err := first(tx.Model(&m).Where("user_id = ?", by.ID).Order("created_at, account_id"), &m)
		if err != nil && !errors.Is(err, models.ErrNotFound) {
			return err
		}
		// The counts hold for attempts at the same time, on any replica.
		if err := s.lockName(tx, "refused sign-ins "+m.AccountID); err != nil {
			return err
		}
		now := models.At(s.now()) // not before what the lock has waited for
		lines, err := refusedSignIns(tx, m.AccountID, now)
		if err != nil {
			return err
		}
		network := models.Network(by.IP)
		if lines.own < ownLines && lines.ownOf[network] < ownLinesNetwork {
			return event(tx, by, models.AuditEvent{AccountID: m.AccountID, At: now, Action: models.ActionSignInFailed, TargetID: by.ID})
		}
		sum := models.AuditEvent{AccountID: m.AccountID, At: now, Action: models.ActionSignInFailed, Detail: moreOfNetwork}
		id := lines.more[network]
		if id == "" && len(lines.more) >= networkLines {
			id, network, sum.Detail = lines.others, "", moreOfOthers
		}
		if id == "" {
			return event(tx, models.Actor{Type: models.ActorUser, IP: network}, sum)
		}
		return tx.Model(&models.AuditEvent{}).Where("account_id = ? AND id = ?", m.AccountID, id).
			Update("times", gorm.Expr("times + 1")).Error
	})
}

// refusedLines are an account's lines of one minute.
type refusedLines struct {
	own    int
	ownOf  map[string]int    // by network
	more   map[string]string // the ids of the lines that sum up one network, by network
	others string            // the id of the line that sums up all other networks, or ""
}

func refusedSignIns(tx *gorm.DB, accountID string, now models.Instant) (refusedLines, error) {
	var events []models.AuditEvent
	minute := models.At(now.Time().Truncate(time.Minute))
	err := tx.Model(&models.AuditEvent{}).Select("id, ip, detail").
		Where("account_id = ? AND at >= ? AND at < ? AND action = ?", accountID, minute, minute.Add(time.Minute), models.ActionSignInFailed).
		Find(&events).Error
	lines := refusedLines{ownOf: map[string]int{}, more: map[string]string{}}
	for _, e := range events {
		switch e.Detail {
		case moreOfNetwork:
			lines.more[e.IP] = e.ID
		case moreOfOthers:
			lines.others = e.ID
		default:
			lines.own++
			lines.ownOf[models.Network(e.IP)]++
		}
	}
	return lines, err
}
