package views

// RevokePage asks before a key is revoked.
type RevokePage struct {
	Page
	Dialog    bool
	OnKeyPage bool // the dialog is on the key's page and changes that, not a row
	Key       KeyRow
	LastUse   string // in words, with route and address
	InUse     bool   // within the last 30 days
	Today     string // requests today, or ""
}

// NotConfirmedPage says that the revocation of a key is in doubt.
type NotConfirmedPage struct {
	Page
	Key KeyRow // its ID is enough, its Name is shown
}

// RevokeOutcome is what is known of a revocation that is not confirmed.
type RevokeOutcome int

// The outcomes of a revocation that is not confirmed.
const (
	RevokeNotDone RevokeOutcome = iota // the database was away, so the key is not revoked
	RevokeBroken                       // a defect, so the key is not revoked
	RevokeUnknown                      // perhaps it is revoked, and perhaps nothing is tried again
	RevokeInDoubt                      // it is tried until it is certain
)

// RevokeFailedPage says that the revocation of a key is not confirmed.
type RevokeFailedPage struct {
	Page
	Dialog    bool   // inside the dialog, for htmx
	Key       KeyRow // ID, and Name where the form had one
	Outcome   RevokeOutcome
	RequestID string
}

// Heading is what the page says first.
func (p RevokeFailedPage) Heading() string {
	switch p.Outcome {
	case RevokeUnknown:
		return "Unknown whether the key is revoked"
	case RevokeInDoubt:
		return "Revocation not confirmed yet"
	}
	return "Not revoked"
}
