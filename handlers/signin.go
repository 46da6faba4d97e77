package handlers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/models/password"
	"cicosts/views"
)

type peopleStore interface {
	UserByEmail(ctx context.Context, email string) (models.User, error)
	RecordEvent(ctx context.Context, by models.Actor, action models.Action) error
	CheckSetupToken(ctx context.Context, hash []byte) error
	CreateFirstOwner(ctx context.Context, tokenHash []byte, u models.NewUser, ip string) (models.Visitor, error)
}

// LoginForm shows the form that signs in.
func (p *Pages) LoginForm(c echo.Context) error {
	if _, ok := VisitorOf(c); ok {
		return seeOther(c, listURL)
	}
	next := LocalPath(c.QueryParam("next"))
	return renderPage(c, http.StatusOK, views.Login(views.LoginPage{Page: Page(c, "Sign in"), Next: next, Lost: next != ""}))
}

// Login signs in. Unknown address, wrong password and disabled user answer alike and take as long.
func (p *Pages) Login(c echo.Context) error {
	// No address has a character that databases do not take, so what stands in for one finds nobody.
	email := strings.ToValidUTF8(strings.ReplaceAll(c.FormValue("email"), "\x00", "\ufffd"), "\ufffd")
	pass, next := c.FormValue("password"), LocalPath(c.FormValue("next"))
	page := views.LoginPage{Page: Page(c, "Sign in"), Email: email, Next: next}
	if page.Errors = emptyFields(email, pass); page.Errors != nil {
		return Render(c, http.StatusUnprocessableEntity, views.Login(page))
	}
	ctx := c.Request().Context()

	user, err := p.Store.UserByEmail(ctx, email)
	if err != nil && !errors.Is(err, models.ErrNotFound) {
		return err
	}
	try := attempt{email: models.Fold(clip(email, longestEmail)), ip: network(c.RealIP()), userID: user.ID}
	try.knownDevice = user.ID != "" && p.Sessions.KnownDevice(c, user.ID)
	if ok, wait := p.logins.take(try); !ok {
		page.Errors = views.Errors{"": fmt.Sprintf("Too many attempts. Try again in %s.", roughly(wait))}
		tellRetryAfter(c, wait)
		return Render(c, http.StatusTooManyRequests, views.Login(page))
	}
	right, err := password.Check(ctx, pass, user.PasswordHash)
	if err != nil {
		return err
	}
	if !right || !user.DisabledAt.IsZero() {
		p.logins.failed(try)
		address, _ := models.CleanEmail(email) // else "": people type passwords and keys there too
		by := models.Actor{Type: models.ActorUser, ID: user.ID, Label: clip(address, models.MaxName), IP: c.RealIP()}
		if err := p.Store.RecordEvent(ctx, by, models.ActionSignInFailed); err != nil {
			return err
		}
		page.Errors = views.Errors{"": "E-mail address or password is wrong."}
		return Render(c, http.StatusUnprocessableEntity, views.Login(page))
	}
	p.logins.succeeded(try)
	if err := p.Sessions.Start(c, user.ID, user.Email); err != nil {
		return err
	}
	if next == "" {
		next = listURL
	}
	return seeOther(c, next)
}

// emptyFields names the fields of a sign-in that are empty. It returns nil for
// none.
func emptyFields(email, pass string) views.Errors {
	errs := views.Errors{}
	if strings.TrimSpace(email) == "" {
		errs["email"] = "Enter your e-mail address."
	}
	if pass == "" {
		errs["password"] = "Enter your password."
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// Logout signs out and has the browser drop what it stored.
func (p *Pages) Logout(c echo.Context) error {
	if err := p.Sessions.End(c); err != nil {
		return err
	}
	c.Response().Header().Set("Clear-Site-Data", `"cache", "storage"`)
	return seeOther(c, "/login")
}

// SetupForm shows the form behind the one-time link.
func (p *Pages) SetupForm(c echo.Context) error {
	token := c.QueryParam("token")
	if err := p.Store.CheckSetupToken(c.Request().Context(), models.HashToken(token)); err != nil {
		return err
	}
	return renderPage(c, http.StatusOK, views.Setup(views.SetupPage{Page: Page(c, "Set up"), Token: token}))
}

// Setup creates the first owner and signs them in.
func (p *Pages) Setup(c echo.Context) error {
	page := views.SetupPage{
		Page: Page(c, "Set up"), Token: c.FormValue("token"), Account: c.FormValue("account"), Email: c.FormValue("email"),
	}
	ctx := c.Request().Context()
	tokenHash := models.HashToken(page.Token)
	if err := p.Store.CheckSetupToken(ctx, tokenHash); err != nil {
		return err
	}
	pass := c.FormValue("password")
	account, accountErr := models.CleanName("account", page.Account)
	email, emailErr := models.CleanEmail(page.Email)
	errs, err := formErrors(accountErr, emailErr, password.Accept(pass, page.Email))
	if err != nil {
		return err
	}
	if errs == nil {
		var hash string
		if hash, err = password.Hash(ctx, pass); err != nil {
			return err
		}
		u := models.NewUser{Email: email, Account: account, PasswordHash: hash}
		v, err := p.Store.CreateFirstOwner(ctx, tokenHash, u, c.RealIP())
		if err == nil {
			if err := p.Sessions.Start(c, v.UserID, v.Email); err != nil {
				return err
			}
			return seeOther(c, listURL)
		}
		if errs, err = formErrors(err); err != nil {
			return err
		}
	}
	page.Errors = errs
	return Render(c, http.StatusUnprocessableEntity, views.Setup(page))
}

// tellRetryAfter says in whole seconds when to try again.
func tellRetryAfter(c echo.Context, wait time.Duration) {
	c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
}

// roughly says how long a wait is.
func roughly(wait time.Duration) string {
	if wait < time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", int(math.Ceil(wait.Minutes())))
}

// clip cuts s after n bytes or a little before, between two characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}
