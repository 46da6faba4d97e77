package web

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/static"
)

// Metrics is told how requests ended. It must not block, and must be safe for concurrent use.
type Metrics interface {
	// Checked is told how the check of an API request's key ended.
	Checked(check Check)
	// Answered is told of every request: what answered it, the status, and how long it took.
	Answered(surface Surface, status int, took time.Duration)
}

// Check is how the check of a key ended.
type Check int

// The ends of a check.
const (
	CheckAccepted    Check = iota
	CheckForbidden         // the key has not the permission
	CheckExpired           // the key has expired
	CheckRevoked           // the key is revoked
	CheckUnknown           // it looks like a key and is none
	CheckMalformed         // it cannot be a key, or there was more than one
	CheckMissing           // no Authorization header, or another scheme
	CheckUnavailable       // nobody knows: answered 503
	CheckCanceled          // the client left before it was known
	numChecks
)

// Checks is how many values Check has, from 0.
const Checks = int(numChecks)

func (c Check) String() string {
	return [Checks]string{"accepted", "forbidden", "expired", "revoked", "unknown", "malformed", "missing", "unavailable", "canceled"}[c]
}

// tellCheck counts a check. Its outcome is "" where the key is not known.
func (s *server) tellCheck(outcome models.Outcome, err error) {
	if s.Metrics != nil {
		s.Metrics.Checked(checkOf(outcome, err))
	}
}

// checkOf tells a check from its outcome for a known key, or from the error without one.
func checkOf(outcome models.Outcome, err error) Check {
	switch outcome {
	case models.OutcomeAccepted:
		return CheckAccepted
	case models.OutcomeForbidden:
		return CheckForbidden
	case models.OutcomeExpired:
		return CheckExpired
	case models.OutcomeRevoked:
		return CheckRevoked
	}
	switch {
	case err == errMissing:
		return CheckMissing
	case err == errMalformed, err == errChecksum, err == errTwoHeaders:
		return CheckMalformed
	case err == errInvalid:
		return CheckUnknown
	case errors.Is(err, context.Canceled):
		return CheckCanceled
	}
	return CheckUnavailable
}

// Surface is the part of the site that answers.
type Surface int

// The surfaces.
const (
	SurfaceAPI Surface = iota
	SurfacePages
	SurfaceStatic
	SurfaceProbes // healthz and readyz
	numSurfaces
)

// Surfaces is how many values Surface has, from 0.
const Surfaces = int(numSurfaces)

func (s Surface) String() string { return [Surfaces]string{"api", "pages", "static", "probes"}[s] }

func surfaceOf(c echo.Context) Surface {
	path := c.Request().URL.Path
	switch {
	case isAPI(path):
		return SurfaceAPI
	case strings.HasPrefix(path, static.Prefix):
		return SurfaceStatic
	case path == "/healthz" || path == "/readyz":
		return SurfaceProbes
	}
	return SurfacePages
}
