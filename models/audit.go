package models

// AuditEvent is one line of an account's history. It is written in the transaction of the change it tells of.
type AuditEvent struct {
	ID         string `gorm:"primaryKey"`
	AccountID  string // "" where no account is known, as for a sign-in with an unknown address
	At         Instant
	ActorType  ActorType
	ActorID    string
	ActorLabel string // what people know the actor by: an e-mail address, a key's hint
	IP         string
	Action     Action
	TargetID   string
	Detail     string // more, in words; never a secret
	Times      int64  // how often it happened: 1, or more for a line that sums up
}

// ActorType says what kind of actor did something.
type ActorType string

// The kinds of actor.
const (
	ActorUser     ActorType = "user"
	ActorKey      ActorType = "key"
	ActorOperator ActorType = "operator" // somebody at the command line
	ActorProgram  ActorType = "program"  // nobody asked for it
)

// Actor is who does something, from where.
type Actor struct {
	Type  ActorType
	ID    string
	Label string
	IP    string
}

// Operator is the actor of the command line.
var Operator = Actor{Type: ActorOperator, Label: "operator (command line)"}

// Program is the actor of what the program notes by itself.
var Program = Actor{Type: ActorProgram, Label: "CICosts"}

// Action names what was done.
type Action string

// What the history tells of.
const (
	ActionSetup         Action = "account.setup"
	ActionUserAdded     Action = "user.added"
	ActionPasswordReset Action = "user.password_reset"
	ActionSignedIn      Action = "session.started"
	ActionSignInFailed  Action = "session.refused"
	ActionSignedOut     Action = "session.ended"
	ActionKeyCreated    Action = "key.created"
	ActionKeyRevoked    Action = "key.revoked"
	ActionImported      Action = "report.imported"
	ActionFailover      Action = "database.failover"
	ActionLookedAt      Action = "database.failover_looked_at"
)
