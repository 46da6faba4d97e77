package models

import (
	"time"

	"cicosts/models/keytext"
)

// KeyPageSize is how many keys one page of a list has.
const KeyPageSize = 50

// KeyFilter narrows a list of keys. The zero value of each field does not narrow.
type KeyFilter struct {
	Query      string // a part of the name, without regard to case, or the last four characters of the key
	Status     Status
	Mode       keytext.Mode
	Permission Permissions
	After      string // KeyPage.Next of the page before; anything else starts from the newest
}

// KeyPage is one page of a list, newest first.
type KeyPage struct {
	Keys []KeyRecord
	Next string // for KeyFilter.After, or "" on the last page
}

// When a key is due.
const (
	RotationAge  = 90 * 24 * time.Hour // older ones should be replaced
	ExpiringSoon = 14 * 24 * time.Hour // before the expiry
	UnusedAfter  = 30 * 24 * time.Hour // without an accepted request
)

// StatsLimit is the highest number that KeyStats counts to; one more says that there are more.
const StatsLimit = 1000

// KeyStats counts the active keys of an account, and while it has none, those
// that were revoked and those that expired unrevoked. The counts of these two
// stop when together they exceed StatsLimit.
type KeyStats struct {
	Total    int // 0: the account has no keys, of whatever status
	Live     int
	Test     int
	Expiring int // within ExpiringSoon
	Old      int // of at least RotationAge
	Revoked  int // 0 while there is an active key
	Expired  int // 0 while there is an active key
}
