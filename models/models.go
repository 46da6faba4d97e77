// Package models holds what the product is about: accounts, people, API keys, their use and their history, with the
// rules each must keep and the errors that breaking one gives.
//
// It knows GORM only for the column tags. It opens no database and reads no clock: instants are passed in.
package models

import (
	"crypto/rand"
	"crypto/sha256"
	"time"
)

// Instant is a moment as microseconds since 1970 in UTC, stored as an integer so that both databases compare it alike.
// Zero is no moment: never, or not yet.
type Instant int64

// At returns t as an Instant, cut to microseconds.
func At(t time.Time) Instant { return Instant(t.UnixMicro()) }

// Time returns i in UTC. The zero Instant gives the zero time.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(i)).UTC()
}

// IsZero reports whether i is no moment.
func (i Instant) IsZero() bool { return i == 0 }

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d.Microseconds()) }

// Day returns the UTC day of i.
func (i Instant) Day() Day { return DayOf(i.Time()) }

// NewID returns prefix, which ends in "_", and 22 random characters (110 bits or more): an id that says nothing.
func NewID(prefix string) string { return prefix + rand.Text()[:22] }

// Prefixes of the ids of stored things.
const (
	AccountIDPrefix = "acct_"
	UserIDPrefix    = "user_"
	KeyIDPrefix     = "key_"
	EventIDPrefix   = "evt_"
	FailoverPrefix  = "fail_"
	UsesIDPrefix    = "uses_"
)

// HashToken returns what is stored of a random token (session id, setup token): its SHA-256.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}
