// Package handlers answers the requests for pages: each handler parses a form once, calls the store, and renders a view
// or redirects. It returns errors and writes none: the web package knows their HTTP statuses. What comes from a cookie,
// who the visitor is, the web package has found out before.
package handlers

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/views"
)

// Sessions signs people in and out on the browser of a request.
type Sessions interface {
	// Start signs the user in under a new session id. The error is
	// models.ErrNotFound if the user is disabled or no longer has the password
	// hash of u.
	Start(c echo.Context, u models.User) error
	// End signs out whoever is signed in.
	End(c echo.Context) error
	// KnownDevice returns the id of the user with this e-mail address if they
	// were the last to sign in with this browser, else "". It asks no database.
	KnownDevice(c echo.Context, email string) (userID string)
	// Presented reports whether the browser sent a session cookie, even of a
	// session that is over.
	Presented(c echo.Context) bool
}

// Config is what the pages need. All fields but Now are required.
type Config struct {
	Store    Store
	Revoker  Revoker
	Sessions Sessions
	// Hasher hashes new keys, under the secret with id SecretID.
	Hasher   *keytext.Hasher
	SecretID string
	// BaseURL is the public address without a slash at the end, for curl snippets.
	BaseURL string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Store is what the pages ask of the database.
type Store interface {
	peopleStore
	keyStore
	failoverStore
}

// Revoker sees revocations through.
type Revoker interface {
	// RevokeKey returns nil only when the revocation is certain. In an error with
	// code "unavailable", models.ErrInDoubt and models.ErrNotRevoked say what
	// else is known.
	RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error)
	// Pending reports whether a revocation of the key is not certain yet, whatever the database says of it.
	Pending(accountID, keyID string) bool
	// Closed reports whether nothing more is tried here.
	Closed() bool
}

// Pages holds the handlers.
type Pages struct {
	Config
	logins  *gate
	creates *window
}

// New returns the handlers.
func New(cfg Config) *Pages {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Pages{Config: cfg, logins: newGate(cfg.Now), creates: newWindow(keysPerMinute, time.Minute, cfg.Now)}
}

const visitorKey = "visitor"

// SetVisitor tells the handlers of c who is signed in. Only the web package calls it.
func SetVisitor(c echo.Context, v models.Visitor) { c.Set(visitorKey, v) }

// VisitorOf returns who is signed in, or false.
func VisitorOf(c echo.Context) (models.Visitor, bool) {
	v, ok := c.Get(visitorKey).(models.Visitor)
	return v, ok
}

// visitor returns who is signed in, on a route that only they reach.
func visitor(c echo.Context) models.Visitor {
	return c.Get(visitorKey).(models.Visitor)
}

// actor is the visitor as the history tells of them.
func actor(c echo.Context) models.Actor {
	v := visitor(c)
	return models.Actor{Type: models.ActorUser, ID: v.UserID, Label: v.Email, IP: c.RealIP()}
}

// Page returns what the frame of every page shows.
func Page(c echo.Context, title string) views.Page {
	p := views.Page{Title: title}
	if v, ok := VisitorOf(c); ok {
		p.Visitor = &views.Visitor{Account: v.AccountName, Email: v.Email, SeesKeys: v.Role != models.RoleViewer}
	}
	return p
}

// FromHTMX reports whether htmx asks, for a part of a page.
func FromHTMX(c echo.Context) bool { return c.Request().Header.Get("HX-Request") == "true" }

// target is the id of the element that htmx will put the answer into.
func target(c echo.Context) string { return c.Request().Header.Get("HX-Target") }

// inDialog reports whether htmx will put the answer into the dialog.
func inDialog(c echo.Context) bool {
	return FromHTMX(c) && target(c) == "dialog"
}

// Render draws a component whole before it sends anything, so that a component that fails sends no half page.
func Render(c echo.Context, status int, component templ.Component) error {
	var buf bytes.Buffer
	if err := component.Render(context.WithoutCancel(c.Request().Context()), &buf); err != nil {
		return err
	}
	return c.HTMLBlob(status, buf.Bytes())
}

// renderPage draws a whole page. htmx follows redirects by itself and would put
// the page into a part of another, so it is told to go there instead.
func renderPage(c echo.Context, status int, component templ.Component) error {
	if FromHTMX(c) && c.Request().Method == http.MethodGet {
		c.Response().Header().Set("HX-Redirect", c.Request().URL.RequestURI())
		return c.NoContent(http.StatusOK)
	}
	return Render(c, status, component)
}

func seeOther(c echo.Context, to string) error { return c.Redirect(http.StatusSeeOther, to) }

// Home sends to the one page there is.
func (p *Pages) Home(c echo.Context) error { return seeOther(c, listURL) }

// Failure is an error that has a page of its own, or a part of one for htmx.
type Failure struct {
	Err  error
	Page templ.Component
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// NotAllowed is the error of a page that the role of the visitor v does not
// include. Its page says to ask the managers, e-mail addresses of people who
// manage the account's keys, or an owner or admin in general if there are none.
func NotAllowed(c echo.Context, v models.Visitor, managers []string) error {
	page := views.NotAllowedPage{Page: Page(c, "Ask an owner or admin"), Role: string(v.Role), Managers: managers}
	f := &Failure{Err: &models.Error{Code: models.CodeForbidden, Message: page.Sentence()}, Page: views.NotAllowed(page)}
	if FromHTMX(c) {
		f.Page = views.ErrorFragment(page.Sentence())
	}
	return f
}

// formErrors collects errors by field for a form that is shown again. It returns nil for none, and the first error that
// is not about the form.
func formErrors(errs ...error) (views.Errors, error) {
	var byField views.Errors
	for _, err := range errs {
		if err == nil {
			continue
		}
		e, ok := err.(*models.Error)
		if !ok || e.Code != models.CodeInvalidForm {
			return nil, err
		}
		if byField == nil {
			byField = views.Errors{}
		}
		if byField[e.Field] == "" {
			byField[e.Field] = e.Message
		}
	}
	return byField, nil
}

// LocalPath returns next when it is a path of this server, else "". It refuses what a browser would take for another
// host: "//host", "/\host", and anything with a scheme or a control character.
func LocalPath(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\") {
		return ""
	}
	for _, r := range next {
		if r < ' ' || r == 0x7f {
			return ""
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return ""
	}
	return next
}
