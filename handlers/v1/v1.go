// Package v1 is the JSON API: each handler parses a request, asks the store for the principal's account, and answers in
// the documented envelope. It never sees a key's text, a cookie or an HTTP status of an error: it returns models.Error,
// and the web package writes it.
package v1

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/models"
)

// API holds what the endpoints need.
type API struct {
	store   Store
	revoker Revoker
	now     func() time.Time
}

// Store is what the endpoints ask of the database.
type Store interface {
	costStore
}

// New returns the endpoints on store. revoker revokes keys. now is the clock; nil means time.Now.
func New(store Store, revoker Revoker, now func() time.Time) *API {
	if now == nil {
		now = time.Now
	}
	return &API{store: store, revoker: revoker, now: now}
}

const principalKey = "principal"

// SetPrincipal tells the handlers of c for whom the request acts. Only the authentication calls it.
func SetPrincipal(c echo.Context, p models.Principal) { c.Set(principalKey, p) }

// principalOf returns for whom the request acts. A route without authentication has no principal, and asking for one
// there is a defect that must not pass for some account.
func principalOf(c echo.Context) models.Principal {
	return c.Get(principalKey).(models.Principal)
}

type meta struct {
	RequestID string `json:"request_id"`
	Timestamp string `json:"timestamp"`
}

type envelope struct {
	Data any  `json:"data"`
	Meta meta `json:"meta"`
}

// respond answers 200 with data in the envelope.
func (a *API) respond(c echo.Context, data any) error {
	return c.JSON(http.StatusOK, envelope{data, meta{
		RequestID: c.Response().Header().Get(echo.HeaderXRequestID),
		Timestamp: a.now().UTC().Format(time.RFC3339),
	}})
}

// invalidParameter is the error for a known query parameter with a bad value.
func invalidParameter(field, message string) error {
	return &models.Error{Code: models.CodeInvalidParameter, Field: field, Message: message}
}
