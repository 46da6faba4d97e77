package web

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	gorilla "github.com/gorilla/sessions"
	"github.com/labstack/echo/v4"

	"cicosts/handlers"
	"cicosts/models"
)

type sessionStore interface {
	StartSession(ctx context.Context, in models.SignIn) error
	Visitor(ctx context.Context, hash []byte) (models.Visitor, error)
	EndSession(ctx context.Context, hash []byte, ip string) error
	KeyManagers(ctx context.Context, accountID string) ([]string, error)
}

// sessions ties browsers to rows: the cookie holds a random id, encrypted and signed, and the row is found by its hash.
// A second cookie remembers for half a year which user has signed in on this browser, by id and e-mail address, for the
// guard of the login.
type sessions struct {
	store   sessionStore
	cookies *gorilla.CookieStore
	devices *gorilla.CookieStore
	prefix  string
}

const (
	sessionCookie = "cicosts_session"
	deviceCookie  = "cicosts_device"
	cookieLife    = 7 * 24 * time.Hour // the longest that a session may last
	deviceLife    = 180 * 24 * time.Hour
)

func newSessions(store sessionStore, keys [][]byte, secure bool) *sessions {
	s := &sessions{store: store, cookies: cookieStore(keys, cookieLife, secure), devices: cookieStore(keys, deviceLife, secure)}
	if secure {
		s.prefix = "__Host-"
	}
	return s
}

func cookieStore(keys [][]byte, life time.Duration, secure bool) *gorilla.CookieStore {
	store := gorilla.NewCookieStore(keys...)
	store.Options = &gorilla.Options{Path: "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode}
	store.MaxAge(int(life.Seconds())) // the options' and the codecs', which would keep 30 days
	return store
}

// read returns what the cookie of this name holds, or "".
func (s *sessions) read(c echo.Context, store *gorilla.CookieStore, name string) string {
	cookie, err := store.Get(c.Request(), s.prefix+name)
	if err != nil { // of another secret, forged or too old: as if there were none
		return ""
	}
	value, _ := cookie.Values["v"].(string)
	return value
}

func (s *sessions) write(c echo.Context, store *gorilla.CookieStore, name, value string) error {
	cookie, _ := store.New(c.Request(), s.prefix+name) // an unreadable old one is replaced
	cookie.Values["v"] = value
	if value == "" {
		cookie.Options.MaxAge = -1
	}
	return cookie.Save(c.Request(), c.Response())
}

// visitor returns who is signed in; models.ErrNotFound for nobody.
func (s *sessions) visitor(c echo.Context) (models.Visitor, error) {
	id := s.read(c, s.cookies, sessionCookie)
	if id == "" {
		return models.Visitor{}, models.ErrNotFound
	}
	return s.store.Visitor(c.Request().Context(), models.HashToken(id))
}

// Start signs the user in under a new id. The session that the browser had
// before ends. The error is models.ErrNotFound if the user is disabled or no
// longer has the password hash of u.
func (s *sessions) Start(c echo.Context, u models.User) error {
	before := s.read(c, s.cookies, sessionCookie)
	id := rand.Text() + rand.Text() // 260 bits
	err := s.store.StartSession(c.Request().Context(), models.SignIn{
		User: u, Hash: models.HashToken(id), Before: models.HashToken(before), IP: c.RealIP(), UserAgent: userAgent(c.Request()),
	})
	if err != nil {
		return err
	}
	if err := s.write(c, s.devices, deviceCookie, u.ID+" "+models.Fold(u.Email)); err != nil {
		return err
	}
	return s.write(c, s.cookies, sessionCookie, id)
}

// End signs out.
func (s *sessions) End(c echo.Context) error {
	if id := s.read(c, s.cookies, sessionCookie); id != "" {
		if err := s.store.EndSession(c.Request().Context(), models.HashToken(id), c.RealIP()); err != nil {
			return err
		}
	}
	return s.write(c, s.cookies, sessionCookie, "")
}

// KnownDevice returns the id of the user with this e-mail address if they were
// the last to sign in with this browser, else "". The cookie says so by itself:
// a flood of attempts would reach the database otherwise.
func (s *sessions) KnownDevice(c echo.Context, email string) (userID string) {
	userID, address, _ := strings.Cut(s.read(c, s.devices, deviceCookie), " ")
	if address == "" || address != models.Fold(email) {
		return ""
	}
	return userID
}

// Presented reports whether the browser sent a session cookie, even of a session
// that is over.
func (s *sessions) Presented(c echo.Context) bool {
	return len(c.Request().CookiesNamed(s.prefix+sessionCookie)) > 0
}

// identify finds out who is signed in. The public forms work without knowing it,
// and have their own words for an outage.
func (s *server) identify(a access) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			v, err := s.sessions.visitor(c)
			switch {
			case err == nil:
				handlers.SetVisitor(c, v)
				setWho(c, v.UserID)
			case !errors.Is(err, models.ErrNotFound) && (a != public || c.Request().Method != http.MethodPost):
				return err
			}
			return next(c)
		}
	}
}

// recognize finds out who is signed in where no route did, so that an address
// without a page looks like that of a missing key.
func (s *server) recognize(c echo.Context) {
	found := func(echo.Context) error { return nil }
	_ = bound(requestTimeout)(s.identify(public)(found))(c) // else the page is a stranger's
}

// admit lets in whom the route is for and sends others to sign in, from where they come back.
func (s *server) admit(a access) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if a == public {
				return next(c)
			}
			v, ok := handlers.VisitorOf(c)
			if !ok {
				return c.Redirect(http.StatusSeeOther, "/login?next="+url.QueryEscape(returnTo(c)))
			}
			if !a.allows(v.Role) {
				managers, _ := s.Store.KeyManagers(c.Request().Context(), v.AccountID) // without them the page names no person
				return handlers.NotAllowed(c, v, managers)
			}
			return next(c)
		}
	}
}

// returnTo is the page that the visitor was on: the one asked for, or the one around the part that htmx asks for, or that
// a form was on. For a sent form that FormAgain knows, it is that form with its fields.
func returnTo(c echo.Context) string {
	if filled := handlers.FormAgain(c); filled != "" {
		return filled
	}
	r := c.Request()
	page := r.URL.RequestURI()
	if r.Method != http.MethodGet {
		page = r.Referer()
	}
	if handlers.FromHTMX(c) {
		page = r.Header.Get("HX-Current-URL")
	}
	if u, err := url.Parse(page); err == nil {
		page = u.RequestURI()
	}
	if page = handlers.LocalPath(page); page == "" {
		return "/settings/api"
	}
	return page
}
