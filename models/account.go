package models

import (
	"net/mail"
	"strings"
)

// Account is a customer: the owner of keys and data. Names are unique without regard to case.
type Account struct {
	ID         string `gorm:"primaryKey"`
	Name       string
	NameFolded string
	Plan       string // "free", "pro" or "team"
	CreatedAt  Instant
}

// PlanTeam is the plan of a new account.
const PlanTeam = "team"

// User is a person who signs in. One user may belong to several accounts.
type User struct {
	ID           string `gorm:"primaryKey"`
	Email        string
	EmailFolded  string
	PasswordHash string
	CreatedAt    Instant
	DisabledAt   Instant
}

// Membership gives a user a role in an account.
type Membership struct {
	AccountID string `gorm:"primaryKey"`
	UserID    string `gorm:"primaryKey"`
	Role      Role
	CreatedAt Instant
}

// Role says what a member of an account may do.
type Role string

// The roles, strongest first.
const (
	RoleOwner  Role = "owner"
	RoleAdmin  Role = "admin"
	RoleMember Role = "member"
	RoleViewer Role = "viewer"
)

// Valid reports whether r is a known role.
func (r Role) Valid() bool {
	return r == RoleOwner || r == RoleAdmin || r == RoleMember || r == RoleViewer
}

// ManagesKeys reports whether r may generate and revoke keys.
func (r Role) ManagesKeys() bool { return r == RoleOwner || r == RoleAdmin }

// CleanEmail returns a bare address, or an Error beside the field "email".
func CleanEmail(email string) (string, error) {
	email = strings.TrimSpace(email)
	a, err := mail.ParseAddress(email)
	if err != nil || a.Address != email || len(email) > 254 || strings.IndexFunc(email, isUnsafe) >= 0 || strings.IndexFunc(email, isInvisible) >= 0 {
		return "", Invalid("email", "Enter an e-mail address such as ada@example.com.")
	}
	return email, nil
}

// NewUser is a person to be created, checked and with the password already hashed.
type NewUser struct {
	Email        string
	PasswordHash string
	Account      string // the name of the account
	Role         Role
}

// Session is one sign-in. It is found by the SHA-256 of the random id that only the cookie holds.
type Session struct {
	Hash       []byte `gorm:"primaryKey"`
	UserID     string
	AccountID  string
	CreatedAt  Instant
	LastSeenAt Instant
	IP         string
	UserAgent  string
}

// SignIn is a session to be started.
type SignIn struct {
	User      User   // as it was when the password was checked
	Hash      []byte // of the session's id
	Before    []byte // the hash of the browser's session before, which ends
	IP        string
	UserAgent string
}

// Visitor is the person behind a session, with the account worked on and the role in it.
type Visitor struct {
	UserID      string
	Email       string
	AccountID   string
	AccountName string
	Role        Role
}
