package models

import "errors"

// Code names a kind of failure, the same for pages and API. HTTP statuses are looked up at the edge.
type Code string

// The kinds of failure that a user can be told about.
const (
	CodeInvalidRequest   Code = "invalid_request"
	CodeInvalidParameter Code = "invalid_parameter"
	CodeInvalidForm      Code = "invalid_form"
	CodeForbidden        Code = "forbidden"
	CodeNotFound         Code = "not_found"
	CodeConflict         Code = "conflict"
	CodeUnavailable      Code = "unavailable"
	CodeInternal         Code = "internal_error"
)

// Error is a failure with a sentence for the user and a cause that only the log sees.
type Error struct {
	Code    Code
	Message string // a sentence for the user
	Field   string // the form field or parameter at fault, or ""
	Err     error  // the private cause, or nil
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// Failures of one kind. Callers test for the first two with errors.Is, and for the third, which wraps a cause, with CodeOf.
var (
	ErrNotFound    = &Error{Code: CodeNotFound, Message: "There is nothing at this address."}
	ErrConflict    = &Error{Code: CodeConflict, Message: "This exists already."}
	ErrUnavailable = &Error{Code: CodeUnavailable, Message: "The service cannot answer just now. Try again in a moment."}
)

// Why a setup link makes no owner.
var (
	ErrSetupDone = &Error{Code: CodeForbidden, Message: "An owner exists already."}
	ErrSetupLink = &Error{Code: CodeForbidden, Message: "This setup link is not valid."}
)

// Unavailable wraps a cause that is the database's or the network's, not the caller's.
func Unavailable(cause error) error {
	return &Error{Code: CodeUnavailable, Message: ErrUnavailable.Message, Err: cause}
}

// Invalid says what is wrong with the field of a form or a parameter.
func Invalid(field, message string) *Error {
	return &Error{Code: CodeInvalidForm, Field: field, Message: message}
}

// CodeOf returns the code of the first Error in err's chain, CodeInternal where there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
