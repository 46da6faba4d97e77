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

// Ended reports whether o says that the key is revoked or has expired.
func (o Outcome) Ended() bool { return o == OutcomeExpired || o == OutcomeRevoked }

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

// MaxRefusalSources is how many sources of refused requests are kept of a key, the newest; what came from others stays
// counted in DailyUse.
const MaxRefusalSources = 20

// RefusalSource is where requests with an ended key, one that is revoked or has expired, come from.
type RefusalSource struct {
	KeyID     string
	IP        string
	UserAgent string
	Route     string
	Outcome   Outcome // OutcomeExpired or OutcomeRevoked
	FirstAt   Instant // since it was listed: one that was pushed out begins anew
	LastAt    Instant
	Requests  int64
}

// Uses is a batch of requests to save. The newest use stays the newest whatever
// the order in which replicas save their batches.
type Uses struct {
	ID       string          // of the batch, which is saved once however often it is sent
	Newest   []LastUse       // by key, accepted before refused
	Counts   []DailyUse      // by key, day, route and outcome
	Refusals []RefusalSource // by key, address, client, route and outcome; each key's refused use is in Newest too
}

// Refused counts the requests with a key that were refused since it ended.
type Refused struct {
	Expired int64 // because it had expired
	Revoked int64 // because it was revoked
}
