package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"cicosts/models"
)

const (
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
	apiPolicy  = "default-src 'none'; frame-ancestors 'none'; sandbox"

	requestIDPrefix = "req_"
)

// observe gives each request an id, answers a panic like any other failure, and writes one line when all is done. The
// line has the route's pattern, never the path or the query, which could hold a key or a token.
func (s *server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		id := models.NewID(requestIDPrefix)
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		if err := guard(next, c); err != nil {
			c.Error(err)
		}
		took := time.Since(start)
		if s.Metrics != nil {
			s.Metrics.Answered(surfaceOf(c), c.Response().Status, took)
		}
		level, attrs := slog.LevelInfo, []slog.Attr{
			slog.String("id", id), slog.String("method", clip(methodOf(c.Request()), 16)), slog.String("route", routeOf(c)),
			slog.Int("status", c.Response().Status), slog.Int64("took_us", took.Microseconds()), slog.String("ip", c.RealIP()),
			slog.String("who", whoOf(c)),
		}
		if err, failed := c.Get(failureKey).(error); failed {
			level, attrs = slog.LevelError, append(attrs, slog.Any("error", err))
		}
		s.Log.LogAttrs(c.Request().Context(), level, "request", attrs...)
		return nil
	}
}

// guard turns a panic into an error, save the one by which a handler cuts the connection.
func guard(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		switch r := recover(); r {
		case nil:
		case http.ErrAbortHandler:
			panic(r)
		default:
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return next(c)
}

// routeOf is the pattern that matched, or what it says where none did.
func routeOf(c echo.Context) string {
	if c.Path() == "" {
		return "(none)"
	}
	return c.Path()
}

const (
	whoKey     = "who"
	failureKey = "failure" // what made an answer one of 5xx, for the log
)

// setWho notes the id of the user or key for the log.
func setWho(c echo.Context, id string) { c.Set(whoKey, id) }

func whoOf(c echo.Context) string {
	id, _ := c.Get(whoKey).(string)
	return id
}

// protect sets the headers that keep browsers from doing harm, and bounds the body.
func (s *server) protect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if isAPI(c.Request().URL.Path) {
			h.Set("Content-Security-Policy", apiPolicy)
		} else {
			h.Set("Content-Security-Policy", pagePolicy)
			h.Set("Referrer-Policy", "same-origin")
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
			h.Set("X-Frame-Options", "DENY")
		}
		if s.base.Scheme == "https" {
			h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		}
		c.Request().Body = http.MaxBytesReader(c.Response(), c.Request().Body, maxBody)
		return next(c)
	}
}

// requestTimeout is how long a request may wait for the database in all, in
// pages and endpoints. Checking a key has a shorter time of its own.
const requestTimeout = 5 * time.Second

// bound sees to it that a database that has frozen freezes no request.
func bound(timeout time.Duration) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			ctx, cancel := context.WithTimeout(c.Request().Context(), timeout)
			defer cancel()
			c.SetRequest(c.Request().WithContext(ctx))
			return next(c)
		}
	}
}

var errCrossSite = &models.Error{
	Code:    models.CodeForbidden,
	Message: "This request did not come from a page of this site, so it was not carried out. Load the page again and repeat it there.",
}

// sameSite refuses requests that change something unless the browser says that a page of ours made them. It is stricter
// than net/http's CrossOriginProtection, whose check could refuse nothing more: one of the two headers must be there beside
// a session cookie, and an Origin must be the base URL's, or its scheme with the request's Host, whatever Sec-Fetch-Site says.
func (s *server) sameSite(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return next(c)
		}
		fetchSite, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
		if fetchSite == "" && origin == "" {
			if s.sessions.Presented(c) {
				return errCrossSite
			}
			return next(c) // no browser, and nobody signed in whose cookie could be abused
		}
		if fetchSite != "" && fetchSite != "same-origin" && fetchSite != "none" {
			return errCrossSite
		}
		if origin != "" && origin != s.base.Scheme+"://"+s.base.Host && origin != s.base.Scheme+"://"+r.Host {
			return errCrossSite
		}
		return next(c)
	}
}

// parseForm reads the body before any handler does, so that one that is too large or broken is one kind of error. Of what
// stands in the address it lets through only what databases take.
func parseForm(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := c.Request().ParseForm()
		if err == nil {
			err = c.Request().ParseMultipartForm(maxBody)
		}
		if err != nil && !errors.Is(err, http.ErrNotMultipart) {
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				return echo.NewHTTPError(http.StatusRequestEntityTooLarge).SetInternal(err)
			}
			return &models.Error{Code: models.CodeInvalidRequest, Message: "The form could not be read.", Err: err}
		}
		if c.Request().Method == http.MethodPost {
			c.Request().Form = c.Request().PostForm // not what stands in the address, which logs and histories keep
		}
		address := c.Request().URL
		if query, _ := url.QueryUnescape(address.RawQuery); !isText(query) { // the escapes are sound, or ParseForm had failed
			return &models.Error{Code: models.CodeInvalidRequest, Message: "The address is not text in UTF-8."}
		}
		if !isText(address.Path) {
			return models.ErrNotFound
		}
		return next(c)
	}
}

// isText reports whether s can be stored and compared as text: PostgreSQL takes neither NUL nor what is not UTF-8.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// userAgent is what the client calls itself, as far as it is text, and not too long.
func userAgent(r *http.Request) string {
	name := r.UserAgent()
	if len(name) > maxUserAgent {
		name = strings.Clone(name[:maxUserAgent]) // which does not keep the rest in memory
	}
	return models.Printable(name)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
