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
	RecordRefusedSignIn(ctx context.Context, by models.Actor) error
	CheckSetupToken(ctx context.Context, hash []byte) error
	CreateFirstOwner(ctx context.Context, tokenHash []byte, u models.NewUser, ip string) (models.Visitor, error)
}

// LoginForm shows the form that signs in.
func (p *Pages) LoginForm(c echo.Context) error {
	if _, ok := VisitorOf(c); ok {
		return seeOther(c, listURL)
	}
	next := LocalPath(c.QueryParam("next"))
	page := views.LoginPage{Page: Page(c, "Sign in"), Next: next, Lost: p.Sessions.Presented(c)}
	return renderPage(c, http.StatusOK, views.Login(page))
}

// Login signs in. Unknown address, wrong password and disabled user answer
// alike and take as long.
func (p *Pages) Login(c echo.Context) error {
	// No address has a character that databases do not take, so what stands in for one finds nobody.
	email := strings.ToValidUTF8(strings.ReplaceAll(c.FormValue("email"), "\x00", "\ufffd"), "\ufffd")
	next := LocalPath(c.FormValue("next"))
	page := views.LoginPage{Page: Page(c, "Sign in"), Email: email, Next: next}
	pass := c.FormValue("password")
	if page.Errors = emptyFields(email, pass); page.Errors != nil {
		return Render(c, http.StatusUnprocessableEntity, views.Login(page))
	}
	try := newAttempt(models.Fold(clip(email, longestEmail)), c.RealIP(), p.Sessions.KnownDevice(c, email))
	var unrecorded error // of a refusal, which stays counted
	right, err := p.logins.try(c.Request().Context(), try, func(ctx context.Context) (right bool, err error) {
		right, unrecorded, err = p.signIn(ctx, c, email, pass)
		return right, err
	})
	if err == nil {
		err = unrecorded
	}
	if over, ok := errors.AsType[tooMany](err); ok {
		return loginRefused(c, page, over.wait, fmt.Sprintf("Too many attempts. Try again in %s.", roughly(over.wait)))
	}
	if errors.Is(err, errBusy) {
		return loginRefused(c, page, busyWait, "Too many people are signing in just now. Wait a few seconds, then sign in again.")
	}
	if models.CodeOf(err) == models.CodeUnavailable {
		page.Errors = views.Errors{"": "You cannot sign in just now, because the database does not answer. Wait a moment, then enter your password again."}
		return &Failure{Err: err, Page: views.Login(page)}
	}
	if err != nil {
		return err
	}
	if !right {
		page.Errors = views.Errors{"": "E-mail address or password is wrong."}
		return Render(c, http.StatusUnprocessableEntity, views.Login(page))
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

// signIn checks a password, and starts a session or records the refusal. All of
// it happens in the attempt's turn, so that attempts hold few connections to the
// database at once. The error unrecorded says that a refusal was not recorded.
func (p *Pages) signIn(ctx context.Context, c echo.Context, email, pass string) (right bool, unrecorded, err error) {
	user, err := p.Store.UserByEmail(ctx, email)
	if err != nil && !errors.Is(err, models.ErrNotFound) {
		return false, nil, err
	}
	right, err = password.Check(ctx, pass, user.PasswordHash)
	if err != nil {
		return false, nil, err
	}
	if right && user.DisabledAt.IsZero() {
		// The password may have been changed since it was read.
		if err := p.Sessions.Start(c, user); !errors.Is(err, models.ErrNotFound) {
			return err == nil, nil, err
		}
	}
	address, _ := models.CleanEmail(email) // else "": people type passwords and keys there too
	by := models.Actor{Type: models.ActorUser, ID: user.ID, Label: clip(address, models.MaxName), IP: c.RealIP()}
	return false, p.Store.RecordRefusedSignIn(ctx, by), nil
}

// busyWait is when an attempt that found no place may come again.
const busyWait = 3 * time.Second

// loginRefused shows the form again if the password was not looked at.
func loginRefused(c echo.Context, page views.LoginPage, wait time.Duration, why string) error {
	page.Errors = views.Errors{"": why}
	tellRetryAfter(c, wait)
	return Render(c, http.StatusTooManyRequests, views.Login(page))
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
		return noSetup(c, err)
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
		return noSetup(c, err)
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
			err = p.Sessions.Start(c, models.User{ID: v.UserID, Email: v.Email, PasswordHash: hash})
			if errors.Is(err, models.ErrNotFound) { // the password is another already
				return seeOther(c, "/login")
			}
			if err != nil {
				return err
			}
			return seeOther(c, listURL)
		}
		if errs, err = formErrors(err); err != nil {
			return noSetup(c, err)
		}
	}
	page.Errors = errs
	return Render(c, http.StatusUnprocessableEntity, views.Setup(page))
}

// noSetup gives the errors of a setup link a page that says where to go on.
func noSetup(c echo.Context, err error) error {
	done := errors.Is(err, models.ErrSetupDone)
	if !done && !errors.Is(err, models.ErrSetupLink) {
		return err
	}
	return &Failure{Err: err, Page: views.NoSetup(views.NoSetupPage{Page: Page(c, "Set up"), OwnerExists: done})}
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
