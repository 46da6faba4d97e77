// Package web is HTTP that is neither page nor endpoint: the route tables, the order of the middleware, sessions, the
// authentication of bearers, and the two places where an error becomes an answer, one for pages and one for the API.
//
// Pages never read keys, and /v1 never reads cookies.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/handlers"
	v1 "cicosts/handlers/v1"
	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/static"
)

// Config is what the server needs. All fields but TrustedProxies, Metrics, Log
// and Now are required.
type Config struct {
	Store Store
	// Revoker sees revocations through.
	Revoker handlers.Revoker
	// Keys checks the keys of API requests.
	Keys Verifier
	// Uses is told of every request with a known key.
	Uses Recorder
	// Hasher hashes new keys, under the secret with id SecretID.
	Hasher   *keytext.Hasher
	SecretID string
	// CookieKeys are pairs of signing (32 bytes) and encryption key (32 bytes), newest first.
	CookieKeys [][]byte
	// BaseURL is the public address, without a slash at the end. With https cookies are Secure.
	BaseURL string
	// TrustedProxies may say in X-Forwarded-For who the client is. Nobody else is believed.
	TrustedProxies []netip.Prefix
	// Metrics is told of every request; nil means nobody is.
	Metrics Metrics
	// Log gets one line a request; nil means slog.Default.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Store is what pages, endpoints and sessions ask of the database.
type Store interface {
	handlers.Store
	v1.Store
	sessionStore
	Ping(ctx context.Context) error
}

// Verifier answers for whom the bearer of a key acts: the keyring.
type Verifier interface {
	Verify(ctx context.Context, text string) (models.Principal, error)
	// Describe is Verify for a Principal with a Description.
	Describe(ctx context.Context, text string) (models.Principal, error)
}

// Recorder notes the uses of keys, without blocking.
type Recorder interface {
	Record(use models.LastUse)
}

// maxBody is the most that a request may send, in bytes.
const maxBody = 64 << 10

type server struct {
	Config
	base      *url.URL
	sessions  *sessions
	plain     map[string]bool // routes (method, space, pattern) whose answers are never compressed
	readiness *readiness
}

// New returns the handler of everything that the program serves.
func New(cfg Config) (*Handler, error) {
	s, e, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	return &Handler{next: headAsGet(e), readiness: s.readiness}, nil
}

func newServer(cfg Config) (*server, *echo.Echo, error) {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &server{
		Config: cfg, base: base, sessions: newSessions(cfg.Store, cfg.CookieKeys, base.Scheme == "https"),
		plain: map[string]bool{}, readiness: newReadiness(cfg.Store.Ping, cfg.Now),
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.handleError
	e.IPExtractor = clientAddress(cfg.TrustedProxies)
	e.Use(s.compress, s.observe, s.protect)
	s.addPages(e)
	s.addAPI(e, apiRoutes(v1.New(s.Store, s.Revoker, s.Now)))
	s.plain[http.MethodGet+" "+static.Prefix+"*"] = true // compressed already
	e.GET(static.Prefix+"*", func(c echo.Context) error {
		static.Serve(c.Response(), c.Request(), acceptsGzip(c.Request().Header))
		return nil
	})
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", s.ready)
	return s, e, nil
}

// headAsGet lets every GET route answer HEAD. The server leaves the body out, since its own request still says HEAD.
func headAsGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			r = r.WithContext(context.WithValue(r.Context(), headKey{}, true)) // a copy
			r.Method = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

// headKey marks a request's context when it came as HEAD.
type headKey struct{}

// methodOf is the method that the client sent.
func methodOf(r *http.Request) string {
	if r.Context().Value(headKey{}) != nil {
		return http.MethodHead
	}
	return r.Method
}

// isAPI reports whether a path belongs to the API, whose errors are JSON.
func isAPI(path string) bool { return path == "/v1" || strings.HasPrefix(path, "/v1/") }
