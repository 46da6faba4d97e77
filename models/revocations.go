package models

import (
	"errors"
	"fmt"
)

// RevocationRequest is a revocation that was asked for and is not certain yet.
type RevocationRequest struct {
	KeyID       string `gorm:"primaryKey"`
	AccountID   string
	RequestedAt Instant // by the database's clock
	ActorType   ActorType
	ActorID     string
	ActorLabel  string
	IP          string
}

// Actor returns who asked for the revocation.
func (r *RevocationRequest) Actor() Actor {
	return Actor{Type: r.ActorType, ID: r.ActorID, Label: r.ActorLabel, IP: r.IP}
}

// ErrNotChanged says that a change was certainly not made, because its
// transaction ended before COMMIT was sent. It is in the chain of an error with
// code "unavailable". Without it, such an error leaves the outcome unknown.
var ErrNotChanged = errors.New("nothing was changed")

// Reasons why a revocation is not confirmed. Each is in the chain of an error
// with code "unavailable". Without either, it is unknown whether the key is
// revoked and whether the revocation is tried again.
var (
	// ErrInDoubt says that the revocation is stored and tried until certain.
	ErrInDoubt = errors.New("the revocation is in doubt")
	// ErrNotRevoked says that the key is not revoked and nothing is tried again.
	ErrNotRevoked = errors.New("the key is not revoked")
)

// RevocationInDoubt wraps the reason why a revocation is not certain yet.
func RevocationInDoubt(cause error) error {
	return &Error{
		Code:    CodeUnavailable,
		Message: "The revocation is not confirmed yet, so the key may still work. CICosts keeps trying.",
		Err:     fmt.Errorf("%w: %w", ErrInDoubt, cause),
	}
}

// NotRevoked wraps the reason why a key is not revoked and nothing is tried
// again.
func NotRevoked(cause error) error {
	return &Error{
		Code:    CodeUnavailable,
		Message: "The key is NOT revoked, because the database did not answer. Nothing was changed. Try again in a moment.",
		Err:     fmt.Errorf("%w: %w", ErrNotRevoked, cause),
	}
}

// RevocationUnknown wraps the reason why it is unknown whether a key is revoked
// and whether the revocation is tried again.
func RevocationUnknown(cause error) error {
	return &Error{
		Code:    CodeUnavailable,
		Message: "It is unknown whether the key is revoked. Look at the key, and revoke it again if it is active.",
		Err:     cause,
	}
}
