package models

// Outcome says how a request with a known key ended.
type Outcome string

// The outcomes that are counted.
const (
	OutcomeAccepted  Outcome = "accepted"
	OutcomeForbidden Outcome = "insufficient_permissions"
	OutcomeExpired   Outcome = "expired"
	OutcomeRevoked   Outcome = "revoked"
)

// LastUse is the newest request with a key, kept once for accepted and once for refused ones.
type LastUse struct {
	KeyID     string `gorm:"primaryKey"`
	Refused   bool   `gorm:"primaryKey"`
	UsedAt    Instant
	IP        string
	UserAgent string
	Route     string // method and route pattern, as "GET /v1/costs"
	Outcome   Outcome
}

// DailyUse counts the requests of one key, UTC day, route and outcome.
type DailyUse struct {
	KeyID    string
	Day      Day
	Route    string
	Outcome  Outcome
	Requests int64
}
