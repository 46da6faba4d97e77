package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cicosts/models"
)

// While the program runs the row of the primary's timeline is at most beatEvery old. Every replica looks twice as often and
// writes only when no other has.
const (
	lookEvery  = 5 * time.Second
	beatEvery  = 10 * time.Second
	beatSlack  = 2 * time.Second // a look may come early
	retryEvery = time.Second
	unseenFor  = 3 * beatEvery // is longer than a failover takes that somebody was there to see

	recordTimeout = 3 * time.Second
)

// beat is a row of timelines that was committed and confirmed to this process. One that it sees proves less: a commit that
// gives up waiting for its standby is seen as well.
type beat struct {
	history history
	at      models.Instant
}

// RecordTimelines begins to record, until Close, which timeline the primary is on and until when it was, and to tell every
// account when it changed and confirmed revocations may be lost. On SQLite, which has no standby, it does nothing.
func (s *Store) RecordTimelines() {
	if s.watch != nil {
		s.inBackground(s.recordTimelines)
	}
}

func (s *Store) recordTimelines(ctx context.Context) {
	failed := false
	for {
		wait := lookEvery
		err := s.noteTimeline(ctx)
		if err != nil {
			wait = retryEvery
			if !failed && ctx.Err() == nil {
				slog.Warn("the database's timeline was not recorded; trying again", "error", err)
			}
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-s.watch.wake:
		case <-time.After(wait):
		}
	}
}

// noted is what came of recording the timeline.
type noted struct {
	beat beat             // the row written; zero: none was due
	left models.Timeline  // where a change was recorded: the timeline before
	lost *models.Failover // what every account was told of, now or by another replica
}

// noteTimeline records the primary's timeline, if that is due, and what this process saw of a change.
func (s *Store) noteTimeline(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	w := s.watch
	w.mu.Lock()
	seen, standbyHosts, known := w.change, w.view.StandbyHosts, w.history.known()
	w.mu.Unlock()
	if !known {
		return nil // of which the watcher has warned
	}
	var n noted
	err := s.change(ctx, "recording the timeline", func(tx *gorm.DB, _ models.Instant) (err error) {
		n, err = s.noteTimelineIn(tx, seen, standbyHosts)
		return err
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.change == seen {
		w.change = change{}
	}
	if n.beat.at != 0 && n.beat.history == w.history { // a newer one, which is followed next, proves nothing of this one
		w.beat = n.beat
	}
	if n.left.Timeline != 0 && !seen.happened { // else said by the watcher
		slog.Warn("the database is on another timeline than the last that was recorded", "from_timeline", n.left.Timeline, "to_timeline", n.beat.history.Timeline)
	}
	if n.lost != nil {
		slog.Error("the database failed over to a server that may lack what was confirmed: revoke again what the logs of this time call \"revocation confirmed\", and what key revoke printed, where it is active",
			"timeline", n.lost.Timeline, "from", n.lost.LostFrom.Time(), "to", n.lost.LostTo.Time())
	}
	return nil
}

func (s *Store) noteTimelineIn(tx *gorm.DB, seen change, standbyHosts int) (n noted, err error) {
	if err := s.makeDurable(tx); err != nil { // so that a row that is lost proves that more may be
		return n, err
	}
	// Of the server that answers, whichever that is, and by its clock, as those of replicas differ.
	var server struct {
		StandbyNames, Standbys string
		System                 int64
		WalFile                string
		Now                    models.Instant
	}
	err = tx.Raw("SELECT h.standby_names, h.standbys, h.system, h.wal_file, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now FROM (" + viewSQL + ", " +
		historySQL + ") AS h (read_only, standby_names, standbys, system, wal_file)").Scan(&server).Error
	if err != nil {
		return n, err
	}
	view := serverView{StandbyNames: server.StandbyNames, Standbys: lines(server.Standbys), StandbyHosts: standbyHosts}
	synchronous := view.synchronous()
	at := beat{historyOf(server.System, server.WalFile), server.Now}
	if !at.history.known() {
		return n, errStandby
	}
	var row models.Timeline
	this := tx.Where("system_id = ? AND timeline = ?", at.history.System, at.history.Timeline).Session(&gorm.Session{})
	err = first(this.Model(&row), &row)
	if err != nil && !errors.Is(err, models.ErrNotFound) {
		return n, err
	}
	if err != nil || seen.happened {
		return s.noteChange(tx, seen, at, synchronous)
	}
	if row.LastSeenAt > at.at.Add(beatSlack-beatEvery) && row.Synchronous == synchronous {
		return n, nil
	}
	n.beat = at
	return n, this.Model(&row).Where("last_seen_at < ?", at.at).
		Updates(map[string]any{"last_seen_at": at.at, "synchronous": synchronous}).Error
}

// noteChange records that the history at.history began, whichever replica is the first to say so, and tells every account
// what may be lost: what was confirmed after the last row that the server has of the history before, until the last
// replica left that.
func (s *Store) noteChange(tx *gorm.DB, seen change, at beat, synchronous bool) (n noted, err error) {
	if err := s.lockName(tx, "timelines"); err != nil {
		return n, err
	}
	row := models.Timeline{
		SystemID: at.history.System, Timeline: at.history.Timeline, FirstSeenAt: at.at, LastSeenAt: at.at, Synchronous: synchronous,
	}
	res := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if res.Error != nil {
		return n, res.Error
	}
	if res.RowsAffected == 1 {
		n.beat = at
	} else if !seen.happened {
		return n, nil // another replica was quicker
	}
	var left models.Timeline
	err = first(tx.Model(&left).Where("NOT (system_id = ? AND timeline = ?)", row.SystemID, row.Timeline).
		Order("last_seen_at DESC"), &left)
	if errors.Is(err, models.ErrNotFound) {
		return n, nil // the first history ever
	}
	if err != nil {
		return n, err
	}
	n.left = left
	lost := models.Failover{SystemID: row.SystemID, Timeline: row.Timeline, LostFrom: left.LastSeenAt, LostTo: at.at}
	var told int64
	if err := tx.Model(&lost).Where("system_id = ? AND timeline = ?", lost.SystemID, lost.Timeline).Count(&told).Error; err != nil {
		return n, err
	}
	// A row that was confirmed to this process is there, if replication was synchronous.
	lostRow := seen.beat.history == history{left.SystemID, left.Timeline} && seen.beat.at > left.LastSeenAt
	// Where nobody saw the change, the row is all that is known, and since then replication may have been anything.
	unseen := !seen.happened && left.LastSeenAt < at.at.Add(-unseenFor)
	if told == 0 && (!left.Synchronous || seen.unsynced || lostRow || unseen) {
		n.lost = &lost
		err = s.tellAccounts(tx, left, lost)
	}
	if told > 0 && seen.happened { // this replica has left the old primary now, and may have confirmed until then
		n.lost = &lost
		err = tx.Model(&models.Failover{}).Where("system_id = ? AND timeline > ? AND lost_to < ?", row.SystemID, seen.left.Timeline, at.at).
			Updates(map[string]any{"lost_to": at.at, "looked_at": 0}).Error
	}
	return n, err
}

// tellAccounts adds the notice and its audit event to every account.
func (s *Store) tellAccounts(tx *gorm.DB, before models.Timeline, lost models.Failover) error {
	var accounts []string
	if err := tx.Model(&models.Account{}).Order("id").Pluck("id", &accounts).Error; err != nil {
		return err
	}
	now := models.At(s.now())
	detail := fmt.Sprintf("timeline %d to %d: what was confirmed between %s and %s may be lost", before.Timeline, lost.Timeline,
		lost.LostFrom.Time().Format(time.RFC3339), lost.LostTo.Time().Format(time.RFC3339))
	for ids := range slices.Chunk(accounts, accountsAtOnce) {
		var notices []models.Failover
		var events []models.AuditEvent
		for _, id := range ids {
			notice := lost
			notice.ID, notice.AccountID = models.NewID(models.FailoverPrefix), id
			notices = append(notices, notice)
			events = append(events, lineOf(models.Program, models.AuditEvent{
				AccountID: id, At: now, Action: models.ActionFailover, TargetID: notice.ID, Detail: detail,
			}))
		}
		if err := tx.Create(notices).Error; err != nil {
			return err
		}
		if err := tx.Create(events).Error; err != nil {
			return err
		}
	}
	return nil
}

// accountsAtOnce is how many accounts one statement tells.
const accountsAtOnce = 500

// Failovers returns what the account must still look at, newest first.
func (s *Store) Failovers(ctx context.Context, accountID string) ([]models.Failover, error) {
	var list []models.Failover
	err := s.read.WithContext(ctx).Where("account_id = ? AND looked_at = 0", accountID).Order("lost_to DESC, id").Find(&list).Error
	return list, classify("reading the failovers", err)
}

// LookAtFailover notes that somebody of the account has looked at what may be lost. Doing it twice keeps the first time.
// models.ErrNotFound where the account has no such failover.
func (s *Store) LookAtFailover(ctx context.Context, by models.Actor, accountID, id string) error {
	return s.change(ctx, "noting that a failover was looked at", func(tx *gorm.DB, now models.Instant) error {
		var lost models.Failover
		if err := first(tx.Model(&lost).Where("account_id = ? AND id = ?", accountID, id), &lost); err != nil {
			return err
		}
		res := tx.Model(&models.Failover{}).Where("account_id = ? AND id = ? AND looked_at = 0", accountID, id).Update("looked_at", now)
		if res.Error != nil || res.RowsAffected == 0 {
			return res.Error
		}
		return event(tx, by, models.AuditEvent{AccountID: accountID, At: now, Action: models.ActionLookedAt, TargetID: id})
	})
}
