package web

import (
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"cicosts/handlers"
	v1 "cicosts/handlers/v1"
	"cicosts/models"
)

// access says who may open a page. The zero value lets nobody in, so that a route that forgets it is found at start.
type access int

const (
	closed      access = iota
	public             // anybody
	keyReaders         // owner, admin, member
	keyManagers        // owner, admin
)

func (a access) String() string {
	return [...]string{"closed", "public", "owner, admin, member", "owner, admin"}[a]
}

func (a access) allows(role models.Role) bool {
	switch a {
	case public:
		return true
	case keyReaders:
		return role.ManagesKeys() || role == models.RoleMember
	case keyManagers:
		return role.ManagesKeys()
	}
	return false
}

// Answers that show a secret are never compressed, because their length could
// tell of it (the BREACH attack).
const (
	showsSecret = true
	showsNone   = false
)

type pageRoute struct {
	method, path string
	access       access
	secret       bool // showsSecret or showsNone
	handle       echo.HandlerFunc
}

func pageRoutes(p *handlers.Pages) []pageRoute {
	const get, post = http.MethodGet, http.MethodPost
	return []pageRoute{
		{get, "/setup", public, showsSecret, p.SetupForm},
		{post, "/setup", public, showsSecret, p.Setup},
		{get, "/login", public, showsNone, p.LoginForm},
		{post, "/login", public, showsNone, p.Login},
		{post, "/logout", public, showsNone, p.Logout},
		{get, "/", public, showsNone, p.Home},
		{get, "/settings/api", keyReaders, showsNone, p.List},
		{get, "/settings/api/new", keyManagers, showsNone, p.New},
		{post, "/settings/api/keys", keyManagers, showsSecret, p.Create},
		{get, "/settings/api/keys/:id", keyReaders, showsNone, p.Key},
		{get, "/settings/api/keys/:id/revoke", keyManagers, showsNone, p.RevokeForm},
		{post, "/settings/api/keys/:id/revoke", keyManagers, showsNone, p.Revoke},
		{post, "/settings/api/failovers/:id/looked-at", keyManagers, showsNone, p.LookedAt},
	}
}

// keyAccess says which keys may call an endpoint. The zero value lets none in.
type keyAccess struct {
	open       bool
	permission models.Permissions // 0: any valid key
}

var anyKey = keyAccess{open: true}

func needs(p models.Permissions) keyAccess { return keyAccess{open: true, permission: p} }

func (a keyAccess) String() string {
	switch {
	case !a.open:
		return "closed"
	case a.permission == 0:
		return "any key"
	}
	return "key with " + a.permission.String()
}

type apiRoute struct {
	method, path string
	access       keyAccess
	describes    bool // it answers from the principal's Description, which makes the check slower
	handle       echo.HandlerFunc
}

func apiRoutes(a *v1.API) []apiRoute {
	return []apiRoute{
		{http.MethodGet, "/v1/key", anyKey, true, a.Key},
		{http.MethodDelete, "/v1/key", anyKey, false, a.DeleteKey},
		{http.MethodGet, "/v1/costs", needs(models.CostsRead), false, a.Costs},
	}
}

func (s *server) addPages(e *echo.Echo) {
	pages := handlers.New(handlers.Config{
		Store: s.Store, Revoker: s.Revoker, Sessions: s.sessions, Hasher: s.Hasher, SecretID: s.SecretID, BaseURL: s.BaseURL, Now: s.Now,
	})
	for _, r := range pageRoutes(pages) {
		if r.access == closed {
			panic(fmt.Sprintf("%s %s says not who may open it", r.method, r.path))
		}
		s.plain[r.method+" "+r.path] = r.secret
		around := []echo.MiddlewareFunc{bound(requestTimeout), s.sameSite, parseForm}
		if explain := explanations[r.method+" "+r.path]; explain != nil {
			around = append(around, explain)
		}
		e.Add(r.method, r.path, r.handle, append(around, s.identify(r.access), s.admit(r.access))...)
	}
}

// explanations say what a failed request has not done, on routes where that is
// worth more than a general sentence. They apply also where a handler is not
// reached because the database is away.
var explanations = map[string]echo.MiddlewareFunc{
	http.MethodPost + " /settings/api/keys/:id/revoke": handlers.ExplainRevoke,
}

func (s *server) addAPI(e *echo.Echo, routes []apiRoute) {
	for _, r := range routes {
		if !r.access.open {
			panic(fmt.Sprintf("%s %s says not which keys may call it", r.method, r.path))
		}
		e.Add(r.method, r.path, r.handle, bound(requestTimeout), s.authenticate(r))
	}
}
