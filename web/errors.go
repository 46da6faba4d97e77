package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/handlers"
	"cicosts/models"
	"cicosts/views"
)

// statuses are the HTTP statuses of the codes. What is not here is 500.
var statuses = map[models.Code]int{
	models.CodeInvalidRequest:   http.StatusBadRequest,
	models.CodeInvalidParameter: http.StatusBadRequest,
	models.CodeInvalidForm:      http.StatusUnprocessableEntity,
	models.CodeForbidden:        http.StatusForbidden,
	models.CodeNotFound:         http.StatusNotFound,
	models.CodeConflict:         http.StatusConflict,
	models.CodeUnavailable:      http.StatusServiceUnavailable,
	codeMethodNotAllowed:        http.StatusMethodNotAllowed,
	codePayloadTooLarge:         http.StatusRequestEntityTooLarge,
	codeMissingAuthorization:    http.StatusUnauthorized,
	codeInvalidAPIKey:           http.StatusUnauthorized,
	codeExpiredAPIKey:           http.StatusUnauthorized,
	codeInsufficientPermissions: http.StatusForbidden,
}

const (
	codeMethodNotAllowed models.Code = "method_not_allowed"
	codePayloadTooLarge  models.Code = "payload_too_large"

	retryAfter = time.Second // what 503 asks for
)

// handleError is the one place where an error becomes an answer. A request whose client seems to have gone gets one like
// any other: a connection that is closed in one direction looks the same, and still reads.
func (s *server) handleError(err error, c echo.Context) {
	failure := asFailure(err)
	status, known := statuses[failure.Code]
	if !known {
		status = http.StatusInternalServerError
		failure = &models.Error{Code: models.CodeInternal, Message: "Something went wrong on our side. It has been logged."}
	}
	if status >= 500 {
		c.Set(failureKey, err)
	}
	if c.Response().Committed {
		return
	}
	if h := c.Response().Header(); status == http.StatusMethodNotAllowed { // Echo knows nothing of headAsGet
		h.Set(echo.HeaderAllow, strings.Replace(h.Get(echo.HeaderAllow), http.MethodGet, "GET, HEAD", 1))
	}
	if status == http.StatusServiceUnavailable {
		tellRetryAfter(c)
	}
	answer := s.pageError
	if isAPI(c.Request().URL.Path) {
		answer = apiError
	}
	if unsent := answer(c, status, failure, err); unsent != nil {
		c.Set(failureKey, fmt.Errorf("%w; the answer was not sent: %w", err, unsent))
		if !c.Response().Committed {
			c.Response().WriteHeader(status) // an answer that was never begun would go out as 200
		}
	}
}

// tellRetryAfter goes with every 503.
func tellRetryAfter(c echo.Context) {
	c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(int(retryAfter.Seconds())))
}

// asFailure finds what users may be told.
func asFailure(err error) *models.Error {
	if e, ok := errors.AsType[*models.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		switch e.Code {
		case http.StatusNotFound:
			return models.ErrNotFound
		case http.StatusMethodNotAllowed:
			return &models.Error{Code: codeMethodNotAllowed, Message: "This address does not answer this method."}
		case http.StatusRequestEntityTooLarge:
			return &models.Error{Code: codePayloadTooLarge, Message: "The request is larger than 64 KiB."}
		}
	}
	return &models.Error{Code: models.CodeInternal}
}

type errorBody struct {
	Error errorPart `json:"error"`
	Meta  errorMeta `json:"meta"`
}

type errorPart struct {
	Code    models.Code   `json:"code"`
	Message string        `json:"message"`
	Details *errorDetails `json:"details,omitempty"`
}

type errorDetails struct {
	Reason   string `json:"reason,omitempty"`
	Required string `json:"required,omitempty"`
	Field    string `json:"field,omitempty"`
}

type errorMeta struct {
	RequestID string `json:"request_id"`
}

// apiError answers in JSON, with the challenge of RFC 6750 where the key was refused.
func apiError(c echo.Context, status int, failure *models.Error, cause error) error {
	details := errorDetails{Field: failure.Field}
	if e, ok := errors.AsType[*authError](cause); ok {
		details.Reason, details.Required = e.reason, e.required
		if e.challenge != "" {
			c.Response().Header().Set(echo.HeaderWWWAuthenticate, e.challenge)
		}
	}
	body := errorBody{
		Error: errorPart{Code: failure.Code, Message: failure.Message},
		Meta:  errorMeta{RequestID: c.Response().Header().Get(echo.HeaderXRequestID)},
	}
	if details != (errorDetails{}) {
		body.Error.Details = &details
	}
	return c.JSON(status, body)
}

// pageError answers with a page, or for htmx with a sentence that the script shows, unless the failure has its own.
func (s *server) pageError(c echo.Context, status int, failure *models.Error, cause error) error {
	if f, ok := errors.AsType[*handlers.Failure](cause); ok {
		return handlers.Render(c, status, f.Page)
	}
	if handlers.FromHTMX(c) {
		return handlers.Render(c, status, views.ErrorFragment(failure.Message))
	}
	if _, known := handlers.VisitorOf(c); !known && failure.Code == models.CodeNotFound {
		s.recognize(c)
	}
	page := views.ErrorPage{
		Page: handlers.Page(c, headings[failure.Code]), Heading: headings[failure.Code], Message: failure.Message,
		RequestID: c.Response().Header().Get(echo.HeaderXRequestID),
	}
	if failure.Code == models.CodeUnavailable {
		page.Meanwhile = "Nothing is lost: keys, sessions and history stay as they are. Meanwhile the API answers 503 where it cannot check a key, and refuses no valid one."
	}
	return handlers.Render(c, status, views.Error(page))
}

var headings = map[models.Code]string{
	models.CodeInvalidRequest: "This request cannot be understood",
	models.CodeForbidden:      "This is not allowed",
	models.CodeNotFound:       "Not found",
	models.CodeConflict:       "This exists already",
	models.CodeUnavailable:    "Not available just now",
	models.CodeInternal:       "Something went wrong",
	codeMethodNotAllowed:      "This is not allowed",
	codePayloadTooLarge:       "Too large",
}
