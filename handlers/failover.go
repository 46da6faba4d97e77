package handlers

import (
	"context"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/views"
)

type failoverStore interface {
	Failovers(ctx context.Context, accountID string) ([]models.Failover, error)
	LookAtFailover(ctx context.Context, by models.Actor, accountID, id string) error
}

// LookedAt takes the notice of a failover off the list.
func (p *Pages) LookedAt(c echo.Context) error {
	if err := p.Store.LookAtFailover(c.Request().Context(), actor(c), visitor(c).AccountID, c.Param("id")); err != nil {
		return err
	}
	return seeOther(c, listURL)
}

// failoverNotices rounds the times to whole minutes, outwards.
func failoverNotices(list []models.Failover) []views.Failover {
	var notices []views.Failover
	for _, f := range list {
		notices = append(notices, views.Failover{
			ID: f.ID, From: views.Exact(f.LostFrom.Time().Truncate(time.Minute)),
			To: views.Exact(f.LostTo.Time().Truncate(time.Minute).Add(time.Minute)),
		})
	}
	return notices
}
