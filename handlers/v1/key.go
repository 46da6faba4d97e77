package v1

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/models/keytext"
)

// Revoker sees revocations through.
type Revoker interface {
	// RevokeKey returns nil only when the revocation is certain. An error with
	// code "unavailable" says in its message what is known.
	RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error)
}

type keyResponse struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	Mode        keytext.Mode `json:"mode"`
	Permissions []string     `json:"permissions"`
	CreatedAt   string       `json:"created_at"`
	ExpiresAt   *string      `json:"expires_at"`
	LastUsedAt  *string      `json:"last_used_at"`
	Account     keyAccount   `json:"account"`
}

type keyAccount struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Key answers GET /v1/key: the presented key itself, as it was when it was
// checked. The route must ask for the principal's Description, so that the
// answer needs no statement of its own.
func (a *API) Key(c echo.Context) error {
	p := principalOf(c)
	d := p.Description
	return a.respond(c, keyResponse{
		ID: p.KeyID, Name: d.Name, Mode: p.Mode, Permissions: p.Permissions.Names(),
		CreatedAt: d.CreatedAt.Time().Format(time.RFC3339), ExpiresAt: rfc3339(p.ExpiresAt), LastUsedAt: rfc3339(d.LastUsedAt),
		Account: keyAccount{p.AccountID, d.AccountName},
	})
}

// DeleteKey answers DELETE /v1/key: the presented key revokes itself.
func (a *API) DeleteKey(c echo.Context) error {
	p := principalOf(c)
	actor := models.Actor{Type: models.ActorKey, ID: p.KeyID, Label: "the key itself", IP: c.RealIP()}
	if _, err := a.revoker.RevokeKey(c.Request().Context(), actor, p.AccountID, p.KeyID); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// rfc3339 formats i in seconds, or returns nil for the zero Instant.
func rfc3339(i models.Instant) *string {
	if i.IsZero() {
		return nil
	}
	s := i.Time().Format(time.RFC3339)
	return &s
}
