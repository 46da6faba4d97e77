package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	v1 "cicosts/handlers/v1"
	"cicosts/models"
	"cicosts/models/keytext"
)

// The API's own errors (RFC 6750, section 3.1), with the documented codes and messages.
const (
	codeMissingAuthorization    models.Code = "missing_authorization"
	codeInvalidAPIKey           models.Code = "invalid_api_key"
	codeExpiredAPIKey           models.Code = "expired_api_key"
	codeInsufficientPermissions models.Code = "insufficient_permissions"
)

const (
	realm            = `Bearer realm="CICosts API"`
	maxUserAgent     = 256
	challengeInvalid = realm + `, error="invalid_token"`
)

// authError is a request that is not let in.
type authError struct {
	failure   models.Error
	challenge string // WWW-Authenticate, or ""
	reason    string // details.reason, or ""
	required  string // details.required, or ""
}

func (e *authError) Error() string { return e.failure.Message }
func (e *authError) Unwrap() error { return &e.failure }

var (
	errMissing = &authError{
		failure: models.Error{Code: codeMissingAuthorization, Message: "Authorization header is required"}, challenge: realm,
	}
	errInvalid = &authError{
		failure: models.Error{Code: codeInvalidAPIKey, Message: "The provided API key is invalid"}, challenge: challengeInvalid,
	}
	errMalformed = &authError{failure: errInvalid.failure, challenge: challengeInvalid, reason: "malformed"}
	errChecksum  = &authError{failure: errInvalid.failure, challenge: challengeInvalid, reason: "checksum"}
	errExpired   = &authError{
		failure: models.Error{Code: codeExpiredAPIKey, Message: "This API key has expired"}, challenge: challengeInvalid,
	}
	errTwoHeaders = &authError{
		failure: models.Error{Code: models.CodeInvalidRequest, Message: "Send exactly one Authorization header with one credential"},
	}
)

func errForbidden(permission string) error {
	return &authError{
		failure:   models.Error{Code: codeInsufficientPermissions, Message: "This API key does not have permission for this action"},
		challenge: realm + `, error="insufficient_scope", scope="` + permission + `"`,
		required:  permission,
	}
}

// authenticate lets in requests whose key works and may call the route, and
// records the use.
func (s *server) authenticate(r apiRoute) echo.MiddlewareFunc {
	route, permission, check := r.method+" "+r.path, r.access.permission, s.Keys.Verify
	if r.describes {
		check = s.Keys.Describe
	}
	forbidden := errForbidden(permission.String())
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			token, err := bearerToken(c.Request().Header)
			if err != nil {
				s.tellCheck("", err)
				return err
			}
			p, err := check(c.Request().Context(), token)
			setWho(c, p.KeyID)
			outcome := models.OutcomeAccepted
			switch {
			case err == nil && !p.Permissions.Has(permission):
				outcome, err = models.OutcomeForbidden, forbidden
			case err != nil:
				outcome, err = refusal(err)
			}
			if outcome != "" {
				s.Uses.Record(models.LastUse{
					KeyID: p.KeyID, Refused: outcome != models.OutcomeAccepted, UsedAt: models.At(s.Now()), IP: c.RealIP(),
					UserAgent: userAgent(c.Request()), Route: route, Outcome: outcome,
				})
			}
			s.tellCheck(outcome, err)
			if err != nil {
				return err
			}
			v1.SetPrincipal(c, p)
			return keyEnded(next(c), forbidden)
		}
	}
}

// refusal turns why the keyring did not accept a key into the answer, and into the outcome to count for a known key.
func refusal(err error) (models.Outcome, error) {
	switch {
	case errors.Is(err, keytext.ErrMalformed):
		return "", errMalformed
	case errors.Is(err, keytext.ErrChecksum):
		return "", errChecksum
	case errors.Is(err, models.ErrKeyUnknown):
		return "", errInvalid
	case errors.Is(err, models.ErrKeyRevoked):
		return models.OutcomeRevoked, errInvalid
	case errors.Is(err, models.ErrKeyExpired):
		return models.OutcomeExpired, errExpired
	}
	return "", &models.Error{Code: models.CodeUnavailable, Message: "The API key could not be checked. Try again in a moment.", Err: err}
}

// keyEnded is the error of an endpoint, or how the key is refused where it ended, or lost the permission, before the
// endpoint's effect.
func keyEnded(err, forbidden error) error {
	switch {
	case errors.Is(err, models.ErrKeyRevoked), errors.Is(err, models.ErrKeyExpired):
		_, err = refusal(err)
	case errors.Is(err, models.ErrKeyNarrowed):
		err = forbidden
	}
	return err
}

// bearerToken returns the token of the one Authorization header (RFC 9110, section 11.4): the scheme in any case, one or
// more spaces, the token, which may be empty.
func bearerToken(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) > 1 {
		return "", errTwoHeaders
	}
	if len(values) == 0 || values[0] == "" {
		return "", errMissing
	}
	value := values[0]
	if joinsCredentials(value) {
		return "", errTwoHeaders
	}
	const scheme = "bearer"
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", errMissing
	}
	rest := value[len(scheme):]
	token := strings.TrimLeft(rest, " ")
	if rest != "" && token == rest && isTokenByte(rest[0]) {
		return "", errMissing // another scheme, that only begins so
	}
	if token == rest {
		return "", errMalformed // nothing, or no space, behind the scheme
	}
	return token, nil
}

// joinsCredentials reports whether a list of credentials was folded into one value, as proxies do with repeated headers:
// a comma, then something that looks like a scheme and a space. The parameters of other schemes have "=" there.
func joinsCredentials(value string) bool {
	for {
		_, rest, found := strings.Cut(value, ",")
		if !found {
			return false
		}
		value = rest
		rest = strings.TrimLeft(rest, " \t")
		n := 0
		for n < len(rest) && isTokenByte(rest[n]) {
			n++
		}
		if n > 0 && n+1 < len(rest) && rest[n] == ' ' {
			return true
		}
	}
}

// isTokenByte reports whether b may stand in a token (RFC 9110, section 5.6.2).
func isTokenByte(b byte) bool {
	return b-'0' <= 9 || b-'A' <= 25 || b-'a' <= 25 || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}
