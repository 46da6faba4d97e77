package handlers

import (
	"fmt"
	"time"

	"cicosts/models"
	"cicosts/views"
)

// chartDays is how many days, today included, the charts show.
const chartDays = 30

// keyRow describes a key as of now. uses are the key's counts of the last chartDays days.
func keyRow(k *models.KeyRecord, uses []models.DailyUse, role models.Role, now time.Time) views.KeyRow {
	at := models.At(now)
	status := k.StatusAt(at)
	row := views.KeyRow{
		ID: k.ID, Name: k.Name, Hint: k.Mode.Prefix() + "…" + k.Hint, Mode: string(k.Mode), Status: string(status),
		Notes: notes(k, status, at), Permissions: k.Permissions.Names(),
		Created: views.Date(k.CreatedAt.Time()), Creator: k.CreatorEmail,
		LastUsed: views.Ago(k.LastUse.UsedAt.Time(), now), LastRoute: k.LastUse.Route,
		Days:      perDay(uses, at),
		CanRevoke: role.ManagesKeys() && status != models.StatusRevoked,
	}
	if status != models.StatusActive {
		row.Ended, row.Refused = views.Second(endOf(k, status).Time()), refused(k, now)
	}
	return row
}

// notes says what has ended, or what is due.
func notes(k *models.KeyRecord, status models.Status, now models.Instant) []views.Note {
	switch status {
	case models.StatusRevoked:
		return []views.Note{{Kind: "off", Text: "revoked " + views.Date(k.RevokedAt.Time()).Text}}
	case models.StatusExpired:
		return []views.Note{{Kind: "off", Text: "expired " + views.Date(k.ExpiresAt.Time()).Text}}
	}
	var list []views.Note
	due := func(text string) { list = append(list, views.Note{Kind: "due", Text: text}) }
	if !k.ExpiresAt.IsZero() && k.ExpiresAt <= now.Add(models.ExpiringSoon) {
		due("expires " + inDays(k.ExpiresAt.Time().Sub(now.Time())))
	}
	if k.CreatedAt <= now.Add(-models.RotationAge) {
		due(fmt.Sprintf("%d days old", days(now.Time().Sub(k.CreatedAt.Time()))))
	}
	switch quietSince := max(k.CreatedAt, k.LastUse.UsedAt); {
	case quietSince > now.Add(-models.UnusedAfter):
	case k.LastUse.UsedAt.IsZero():
		due("never used")
	default:
		due(fmt.Sprintf("unused for %d days", days(now.Time().Sub(quietSince.Time()))))
	}
	return list
}

func days(d time.Duration) int { return int(d / (24 * time.Hour)) }

func inDays(d time.Duration) string {
	switch n := days(d); n {
	case 0:
		return "within 24 hours"
	case 1:
		return "in 1 day"
	default:
		return fmt.Sprintf("in %d days", n)
	}
}

// perDay adds the counts up by day, oldest first, today last.
func perDay(uses []models.DailyUse, now models.Instant) []views.Day {
	list := make([]views.Day, chartDays)
	from := now.Day() - chartDays + 1
	for i := range list {
		list[i].At = (from + models.Day(i)).Time()
	}
	for _, u := range uses {
		i := u.Day - from
		if i < 0 || i >= chartDays {
			continue
		}
		if u.Outcome == models.OutcomeAccepted {
			list[i].Accepted += u.Requests
		} else {
			list[i].Refused += u.Requests
		}
	}
	return list
}
