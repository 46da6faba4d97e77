package models

import (
	"errors"
	"strconv"
	"time"

	"cicosts/models/keytext"
)

// APIKey is the record of a key: everything but its text, which is shown once and kept nowhere.
type APIKey struct {
	ID          string `gorm:"primaryKey"`
	AccountID   string
	Name        string
	NameFolded  string
	Mode        keytext.Mode
	Permissions Permissions
	Hint        string // the last four characters of the text
	Hash        keytext.Hash
	SecretID    string // which secret's pepper the hash was made with
	FormToken   string // of the form that made it; sending the form again makes no second key
	CreatedBy   string // user id
	CreatedAt   Instant
	ExpiresAt   Instant // zero: never
	RevokedAt   Instant // zero: not revoked
}

// Status is what a key is worth at an instant.
type Status string

// A revoked key that has also expired is revoked.
const (
	StatusActive  Status = "active"
	StatusExpired Status = "expired"
	StatusRevoked Status = "revoked"
)

// StatusAt returns the status of a key with these instants at now: a key works until it expires and not at that instant.
func StatusAt(expires, revoked, now Instant) Status {
	switch {
	case !revoked.IsZero():
		return StatusRevoked
	case !expires.IsZero() && now >= expires:
		return StatusExpired
	}
	return StatusActive
}

// StatusAt returns the key's status at now.
func (k *APIKey) StatusAt(now Instant) Status { return StatusAt(k.ExpiresAt, k.RevokedAt, now) }

// Why a key of the right form is not accepted.
var (
	ErrKeyUnknown = errors.New("no such key")
	ErrKeyRevoked = errors.New("the key is revoked")
	ErrKeyExpired = errors.New("the key has expired")
	// ErrKeyNarrowed says that a key which had a permission when its request came has it no more.
	ErrKeyNarrowed = errors.New("the key no longer has the permission")
)

// KeyState is what the database knows of a key at the moment it was asked, by its own clock.
type KeyState struct {
	Hash        keytext.Hash
	ID          string
	AccountID   string
	Mode        keytext.Mode
	Permissions Permissions
	ExpiresAt   Instant
	RevokedAt   Instant
	Now         Instant // the database's clock

	Description *KeyDescription // of the same snapshot; nil unless it was asked for
}

// KeyDescription is what GET /v1/key shows of a key beside its Principal. It is
// read-only, because requests share it.
type KeyDescription struct {
	Name        string
	AccountName string
	CreatedAt   Instant
	LastUsedAt  Instant // of the uses saved so far; zero: none
}

// Principal is who an API request acts for. Handlers see principals, never keys.
type Principal struct {
	KeyID       string
	AccountID   string
	Mode        keytext.Mode
	Permissions Permissions
	ExpiresAt   Instant // zero: never

	Description *KeyDescription // nil unless the route asks for it
}

// KeyRequest is what a person asks for when generating a key.
type KeyRequest struct {
	Name        string
	Mode        keytext.Mode
	Permissions Permissions
}

// Clean checks the request and returns it with the name cleaned. The errors stand beside the fields name, mode and
// permissions.
func (r KeyRequest) Clean() (KeyRequest, []*Error) {
	var errs []*Error
	name, err := CleanName("name", r.Name)
	if err != nil {
		errs = append(errs, err.(*Error))
	}
	r.Name = name
	if !r.Mode.Valid() {
		errs = append(errs, Invalid("mode", "Choose live or test."))
	}
	if r.Permissions&FullAccess == 0 {
		errs = append(errs, Invalid("permissions", "Choose at least one permission, or leave the permissions unlimited."))
	}
	return r, errs
}

// Expiry is when a new key is to stop working: after a number of days, at the end of a date, or (zero value) never.
type Expiry struct {
	Days int
	On   time.Time // midnight UTC that begins the last day
}

// ParseExpiry reads the form fields expires ("", "never", "30", "60", "90", "180", "365" or "custom") and expires_on
// (YYYY-MM-DD, for custom). now is for refusing dates that are over.
func ParseExpiry(expires, on string, now time.Time) (Expiry, *Error) {
	switch expires {
	case "", "never":
		return Expiry{}, nil
	case "30", "60", "90", "180", "365":
		days := 0
		for _, digit := range expires {
			days = days*10 + int(digit-'0')
		}
		return Expiry{Days: days}, nil
	case "custom":
		day, err := time.Parse(time.DateOnly, on)
		if err != nil || day.Year() > 9000 {
			return Expiry{}, Invalid("expires_on", "Enter a date as YYYY-MM-DD.")
		}
		if !day.AddDate(0, 0, 1).After(now) {
			return Expiry{}, Invalid("expires_on", "This date is past. Choose today or a later day.")
		}
		return Expiry{On: day}, nil
	}
	return Expiry{}, Invalid("expires", "Choose never, 30, 60, 90, 180 or 365 days, or a date.")
}

// ExpiryLike returns the form fields expires and expires_on, as ParseExpiry reads
// them, that give a key generated at now as long a life as k has, or has had. A
// length for which there is no choice becomes a date, at most a day later.
func (k *APIKey) ExpiryLike(now time.Time) (expires, on string) {
	const day = 24 * time.Hour
	if k.ExpiresAt.IsZero() {
		return "never", ""
	}
	life := k.ExpiresAt.Time().Sub(k.CreatedAt.Time())
	if days := strconv.Itoa(int(life / day)); life%day == 0 {
		if _, err := ParseExpiry(days, "", now); err == nil {
			return days, ""
		}
	}
	lastDay := k.ExpiresAt.Add(-time.Microsecond).Day()
	return "custom", now.UTC().AddDate(0, 0, max(0, int(lastDay-k.CreatedAt.Day()))).Format(time.DateOnly)
}

// From returns the instant the key stops working when it is created at created: N days are N times 24 hours, and a date
// is the midnight (UTC) after it. Zero for never.
func (e Expiry) From(created Instant) Instant {
	switch {
	case e.Days > 0:
		return created.Add(time.Duration(e.Days) * 24 * time.Hour)
	case !e.On.IsZero():
		return At(e.On.AddDate(0, 0, 1))
	}
	return 0
}

// KeyRecord is a key as lists and its page show it: with who made it and the newest accepted and refused request.
// The uses are zero where there was none.
type KeyRecord struct {
	APIKey
	CreatorEmail string
	LastUse      LastUse
	LastRefusal  LastUse
	Refused      Refused // zero too in what is listed for an operator

	// Revoking says that a revocation was asked for and is not certain yet.
	// RevokedAt, where it is set, could still be lost in a failover.
	Revoking bool
}
