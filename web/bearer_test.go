package web

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
)

const (
	challenge        = `Bearer realm="CICosts API"`
	challengeToken   = challenge + `, error="invalid_token"`
	missingBody      = `{"code": "missing_authorization", "message": "Authorization header is required"}`
	invalidBody      = `{"code": "invalid_api_key", "message": "The provided API key is invalid"}`
	malformedBody    = `{"code": "invalid_api_key", "message": "The provided API key is invalid", "details": {"reason": "malformed"}}`
	checksumBody     = `{"code": "invalid_api_key", "message": "The provided API key is invalid", "details": {"reason": "checksum"}}`
	expiredBody      = `{"code": "expired_api_key", "message": "This API key has expired"}`
	twoHeadersBody   = `{"code": "invalid_request", "message": "Send exactly one Authorization header with one credential"}`
	insufficientBody = `{"code": "insufficient_permissions", "message": "This API key does not have permission for this action", "details": {"required": "costs:read"}}`
)

// authorize sends a request with these Authorization headers.
func (s *site) authorize(method, path string, values ...string) *answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.address+path, nil)
	s.must(err)
	req.Header["Authorization"] = values
	a, err := s.browser().do(req)
	s.must(err)
	return a
}

var requestID = regexp.MustCompile(`^req_[A-Z2-7]{22}$`)

// wantError compares the whole body with an error as documented: nothing may be missing, and nothing more be there.
func (a *answer) wantError(status int, challenge, body string) {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%s: %d, want %d\n%s", a.asked, a.status, status, a.body)
		return
	}
	var challenges []string
	if challenge != "" {
		challenges = []string{challenge}
	}
	if diff := cmp.Diff(challenges, a.header.Values("WWW-Authenticate")); diff != "" {
		a.t.Errorf("%s: WWW-Authenticate (-want +got):\n%s", a.asked, diff)
	}
	id := a.header.Get("X-Request-Id")
	if !requestID.MatchString(id) {
		a.t.Errorf("%s: request id %q", a.asked, id)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" && got != "application/json; charset=UTF-8" {
		a.t.Errorf("%s: Content-Type %q", a.asked, got)
	}
	want := `{"error": ` + body + `, "meta": {"request_id": "` + id + `"}}`
	if diff := cmp.Diff(decode(a.t, want), decode(a.t, a.body)); diff != "" {
		a.t.Errorf("%s: body (-want +got):\n%s", a.asked, diff)
	}
}

func decode(t testing.TB, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func TestAuthorizationHeader(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		owner := storetest.MustOwner(t, s.st)
		secret, _ := storetest.MustKey(t, s.st, owner)
		expired, _ := storetest.MustKey(t, s.st, owner, func(_ *models.APIKey, e *models.Expiry) { e.On = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) })
		good, bad := secret.Reveal(), keytext.Mint(keytext.Test).Reveal()
		wrongSum := good[:len(good)-1] + "0"
		if wrongSum == good {
			wrongSum = good[:len(good)-1] + "1"
		}
		for _, tt := range []struct {
			name   string
			values []string
			status int // 200 or the error
			header string
			body   string
		}{
			{"scheme as documented", []string{"Bearer " + good}, 200, "", ""},
			{"scheme in lower case", []string{"bearer " + good}, 200, "", ""},
			{"scheme in upper case", []string{"BEARER " + good}, 200, "", ""},
			{"scheme in mixed case", []string{"bEaReR " + good}, 200, "", ""},
			{"several spaces", []string{"Bearer    " + good}, 200, "", ""},
			{"space around the value", []string{"  Bearer " + good + " \t"}, 200, "", ""},

			{"no header", nil, 401, challenge, missingBody},
			{"empty header", []string{""}, 401, challenge, missingBody},
			{"only space", []string{"  "}, 401, challenge, missingBody},
			{"Basic", []string{"Basic YTpi"}, 401, challenge, missingBody},
			{"Basic without credentials", []string{"Basic"}, 401, challenge, missingBody},
			{"Digest", []string{`Digest username="a", realm="b", nonce="c", uri="/", response="d"`}, 401, challenge, missingBody},
			{"Negotiate", []string{"Negotiate YTpi="}, 401, challenge, missingBody},
			{"a scheme that begins like Bearer", []string{"BearerToken " + good}, 401, challenge, missingBody},
			{"a key as another scheme", []string{"Token " + good}, 401, challenge, missingBody},
			{"the key alone", []string{good}, 401, challenge, missingBody},

			{"scheme alone", []string{"Bearer"}, 401, challengeToken, malformedBody},
			{"scheme and space", []string{"Bearer  "}, 401, challengeToken, malformedBody},
			{"TAB for the space", []string{"Bearer\t" + good}, 401, challengeToken, malformedBody},
			{"TAB behind the space", []string{"Bearer \t" + good}, 401, challengeToken, malformedBody},
			{"two tokens", []string{"Bearer " + good + " " + good}, 401, challengeToken, malformedBody},
			{"a JWT", []string{"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."}, 401, challengeToken, malformedBody},
			{"too long", []string{"Bearer " + good + "0"}, 401, challengeToken, malformedBody},
			{"too short", []string{"Bearer " + good[:len(good)-1]}, 401, challengeToken, malformedBody},
			{"other characters", []string{"Bearer " + good[:20] + "-" + good[21:]}, 401, challengeToken, malformedBody},
			{"prefix in upper case", []string{"Bearer " + strings.ToUpper(good[:9]) + good[9:]}, 401, challengeToken, malformedBody},
			{"in quotes", []string{`Bearer "` + good + `"`}, 401, challengeToken, malformedBody},
			{"as a parameter", []string{`Bearer token="` + good + `"`}, 401, challengeToken, malformedBody},
			{"very long", []string{"Bearer " + strings.Repeat("a", 8000)}, 401, challengeToken, malformedBody},
			{"a comma behind", []string{"Bearer " + good + ","}, 401, challengeToken, malformedBody},
			{"wrong checksum", []string{"Bearer " + wrongSum}, 401, challengeToken, checksumBody},
			{"unknown", []string{"Bearer " + bad}, 401, challengeToken, invalidBody},
			{"expired", []string{"Bearer " + expired.Reveal()}, 401, challengeToken, expiredBody},

			{"two headers", []string{"Bearer " + good, "Bearer " + good}, 400, "", twoHeadersBody},
			{"good and bad", []string{"Bearer " + good, "Bearer " + bad}, 400, "", twoHeadersBody},
			{"good and another scheme", []string{"Basic YTpi", "Bearer " + good}, 400, "", twoHeadersBody},
			{"good and empty", []string{"", "Bearer " + good}, 400, "", twoHeadersBody},
			{"joined by a comma", []string{"Bearer " + good + ", Bearer " + good}, 400, "", twoHeadersBody},
			{"joined without a space", []string{"Bearer " + good + ",Bearer " + bad}, 400, "", twoHeadersBody},
			{"another scheme joined in front", []string{"Basic YTpi, Bearer " + good}, 400, "", twoHeadersBody},
			{"another scheme joined behind", []string{"Bearer " + good + ", Basic YTpi"}, 400, "", twoHeadersBody},
		} {
			t.Run(tt.name, func(t *testing.T) {
				a := s.authorize(http.MethodGet, "/v1/key", tt.values...)
				a.t = t
				if tt.status == 200 {
					a.want(200)
					return
				}
				a.wantError(tt.status, tt.header, tt.body)
			})
		}
	})
}

func TestRefusedKeys(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		owner := storetest.MustOwner(t, s.st)
		past := func(_ *models.APIKey, e *models.Expiry) { e.On = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }
		revoked, key := storetest.MustKey(t, s.st, owner)
		both, bothKey := storetest.MustKey(t, s.st, owner, past)
		for _, k := range []models.APIKey{key, bothKey} {
			_, err := s.st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, k.ID)
			mustBeNil(t, err)
		}
		s.authorize("GET", "/v1/key", "Bearer "+revoked.Reveal()).wantError(401, challengeToken, invalidBody)
		s.authorize("GET", "/v1/key", "Bearer "+both.Reveal()).wantError(401, challengeToken, invalidBody)

		narrow, _ := storetest.MustKey(t, s.st, owner, func(k *models.APIKey, _ *models.Expiry) { k.Permissions &^= models.CostsRead })
		s.authorize("GET", "/v1/costs", "Bearer "+narrow.Reveal()).
			wantError(403, challenge+`, error="insufficient_scope", scope="costs:read"`, insufficientBody)
		ended, _ := storetest.MustKey(t, s.st, owner, past, func(k *models.APIKey, _ *models.Expiry) { k.Permissions = models.AlertsRead })
		s.authorize("GET", "/v1/costs", "Bearer "+ended.Reveal()).wantError(401, challengeToken, expiredBody)
	})
}

// A key anywhere but in the header is not looked at (RFC 6750, section 2.2 and 2.3, are not supported).
func TestKeyElsewhereIsIgnored(t *testing.T) {
	s := sqliteSite(t)
	secret, _ := storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st))
	text := secret.Reveal()
	for _, name := range []string{"api_key", "access_token", "key", "token", "authorization"} {
		s.browser().get("/v1/key?"+name+"="+text).wantError(401, challenge, missingBody)
		s.browser().get("/v1/key", "Cookie", name+"="+text).wantError(401, challenge, missingBody)
	}
	s.browser().get("/v1/key", "Cookie", "cicosts_session="+text).wantError(401, challenge, missingBody)
	s.browser().get("/v1/key", "X-Api-Key", text).wantError(401, challenge, missingBody)
	s.browser().get("/v1/key", "Proxy-Authorization", "Bearer "+text).wantError(401, challenge, missingBody)
	s.browser().send("DELETE", "/v1/key", "access_token="+text, "Content-Type", "application/x-www-form-urlencoded").
		wantError(401, challenge, missingBody)

	// Nor is somebody who is signed in known to the API.
	b, _ := s.owner()
	b.get("/v1/key").wantError(401, challenge, missingBody)
	// And a key opens no page.
	s.browser().get("/settings/api", "Authorization", "Bearer "+text).wantRedirect("/login?next=%2Fsettings%2Fapi")
}

// Every challenge that can be sent keeps to the grammar of RFC 9110, section 11.6.1, and to RFC 6750, section 3.
func TestChallenges(t *testing.T) {
	parameter := `([a-z_]+)="([\x20-\x21\x23-\x5B\x5D-\x7E]*)"`
	whole := regexp.MustCompile(`^Bearer ` + parameter + `(, ` + parameter + `)*$`)
	one := regexp.MustCompile(parameter)
	check := func(value string, want map[string]string) {
		t.Helper()
		if !whole.MatchString(value) {
			t.Errorf("%q is not a challenge", value)
		}
		got := map[string]string{}
		for _, m := range one.FindAllStringSubmatch(value, -1) {
			if _, twice := got[m[1]]; twice {
				t.Errorf("%q has %s twice", value, m[1])
			}
			got[m[1]] = m[2]
		}
		want["realm"] = "CICosts API"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", value, diff)
		}
	}
	for p := models.Permissions(1); p <= models.FullAccess; p++ {
		e := errForbidden(p.String()).(*authError)
		check(e.challenge, map[string]string{"error": "insufficient_scope", "scope": strings.Join(p.Names(), " ")})
	}
	for _, e := range []*authError{errInvalid, errMalformed, errChecksum, errExpired} {
		check(e.challenge, map[string]string{"error": "invalid_token"})
	}
	check(errMissing.challenge, map[string]string{})
	if errTwoHeaders.challenge != "" {
		t.Error("a challenge with 400")
	}
}

// FuzzBearerToken never takes a token from what is not exactly one credential of the scheme.
func FuzzBearerToken(f *testing.F) {
	for _, seed := range []string{"Bearer x", "bearer  x", "Basic x", "Bearer", "", "Bearer a, Bearer b", "Bearer\tx", `Digest a="b", c="d"`} {
		f.Add(seed)
	}
	whole := regexp.MustCompile(`(?is)^bearer +(.*)$`)
	f.Fuzz(func(t *testing.T, value string) {
		token, err := bearerToken(http.Header{"Authorization": {value}})
		m := whole.FindStringSubmatch(value)
		if err == nil && (m == nil || m[1] != token) {
			t.Errorf("%q gives the token %q", value, token)
		}
		if _, err := bearerToken(http.Header{"Authorization": {value, value}}); err != errTwoHeaders {
			t.Errorf("twice %q: %v", value, err)
		}
	})
}
