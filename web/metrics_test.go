package web

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
	"cicosts/static"
)

// told keeps what metrics were told.
type told struct {
	mu       sync.Mutex
	checks   []string
	answered []string
}

func (m *told) Checked(check Check) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checks = append(m.checks, check.String())
}

func (m *told) Answered(surface Surface, status int, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if took <= 0 || took > time.Minute {
		surface = -1 // String panics
	}
	m.answered = append(m.answered, surface.String()+" "+http.StatusText(status))
}

// take returns what was told since the last take, once there are n answers: a client has its answer before they are.
func (m *told) take(t *testing.T, n int) (checks, answered []string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		m.mu.Lock()
		if len(m.answered) >= n {
			checks, answered, m.checks, m.answered = m.checks, m.answered, nil, nil
			m.mu.Unlock()
			return checks, answered
		}
		m.mu.Unlock()
		mustf(t, time.Now().Before(deadline), "%d answers were not told", n)
	}
}

// Each request to an endpoint is told once, as what it was.
func TestChecksAreTold(t *testing.T) {
	m := &told{}
	s := sqliteSite(t, func(c *Config) { c.Metrics = m })
	owner := storetest.MustOwner(t, s.st)
	good, _ := storetest.MustKey(t, s.st, owner)
	narrow, _ := storetest.MustKey(t, s.st, owner, func(k *models.APIKey, _ *models.Expiry) { k.Permissions = models.AlertsRead })
	expired, _ := storetest.MustKey(t, s.st, owner, func(_ *models.APIKey, e *models.Expiry) { e.On = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) })
	revoked, _ := storetest.MustKey(t, s.st, owner)
	s.authorize("DELETE", "/v1/key", "Bearer "+revoked.Reveal()).want(http.StatusNoContent)
	m.take(t, 1)
	text := good.Reveal()
	wrongSum := text[:len(text)-1] + "0"
	if wrongSum == text {
		wrongSum = text[:len(text)-1] + "1"
	}
	for _, tt := range []struct {
		path   string
		values []string
		want   []string
	}{
		{"/v1/key", []string{"Bearer " + good.Reveal()}, []string{"accepted"}},
		{"/v1/costs?limit=x", []string{"Bearer " + good.Reveal()}, []string{"accepted"}}, // whatever comes of it
		{"/v1/costs", []string{"Bearer " + narrow.Reveal()}, []string{"forbidden"}},
		{"/v1/key", []string{"Bearer " + expired.Reveal()}, []string{"expired"}},
		{"/v1/key", []string{"Bearer " + revoked.Reveal()}, []string{"revoked"}},
		{"/v1/key", []string{"Bearer " + keytext.Mint(keytext.Live).Reveal()}, []string{"unknown"}},
		{"/v1/key", []string{"Bearer x"}, []string{"malformed"}},
		{"/v1/key", []string{"Bearer " + wrongSum}, []string{"malformed"}},
		{"/v1/key", []string{"Bearer"}, []string{"malformed"}},
		{"/v1/key", []string{"Bearer x", "Bearer x"}, []string{"malformed"}},
		{"/v1/key", nil, []string{"missing"}},
		{"/v1/key", []string{"Basic eDp5"}, []string{"missing"}},
		{"/v1/nowhere", []string{"Bearer " + good.Reveal()}, nil},
		{"/login", nil, nil},
	} {
		s.authorize("GET", tt.path, tt.values...)
		if checks, _ := m.take(t, 1); !slices.Equal(checks, tt.want) {
			t.Errorf("%s with %d headers: %v, want %v", tt.path, len(tt.values), checks, tt.want)
		}
	}
	s.exec("ALTER TABLE api_keys RENAME TO elsewhere")
	s.authorize("GET", "/v1/key", "Bearer "+good.Reveal()).want(http.StatusServiceUnavailable)
	if checks, _ := m.take(t, 1); !slices.Equal(checks, []string{"unavailable"}) {
		t.Errorf("without a database: %v", checks)
	}
}

// stuck is a keyring that waits for the client to leave.
type stuck struct {
	Verifier
	called chan struct{}
}

func (s stuck) Describe(ctx context.Context, _ string) (models.Principal, error) {
	close(s.called)
	<-ctx.Done()
	return models.Principal{}, ctx.Err()
}

// A client that leaves is no outage.
func TestClientThatLeavesIsTold(t *testing.T) {
	m, keys := &told{}, stuck{called: make(chan struct{})}
	s := sqliteSite(t, func(c *Config) { c.Metrics, c.Keys = m, keys })
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.address+"/v1/key", nil)
	mustBeNil(t, err)
	req.Header.Set("Authorization", "Bearer x")
	left := make(chan struct{})
	go func() {
		defer close(left)
		if _, err := s.browser().do(req); err == nil {
			t.Error("there is an answer")
		}
	}()
	<-keys.called
	leave()
	<-left
	if checks, _ := m.take(t, 1); !slices.Equal(checks, []string{"canceled"}) {
		t.Errorf("told %v", checks)
	}
}

// Every request is told with its surface and its status, HEAD and failures too.
func TestAnswersAreTold(t *testing.T) {
	m := &told{}
	s := sqliteSite(t, func(c *Config) { c.Metrics, c.Store = m, panicky{c.Store} })
	v := s.addUser("Acme", models.RoleOwner)
	b := s.browser()
	b.get("/login")
	b.get("/settings/api")
	b.get("/v1")
	b.get("/v1/key")
	b.get("/v1beta")
	b.get(static.CSS.URL)
	b.get("/static/nothing")
	b.send("HEAD", "/healthz", "")
	b.get("/readyz")
	b.get("/metrics")
	b.post("/login", loginForm(v.Email, goodPassword))
	_, got := m.take(t, 11)
	slices.Sort(got)
	want := []string{
		"api Not Found", "api Unauthorized", "pages Internal Server Error", "pages Not Found", "pages Not Found", "pages OK", "pages See Other",
		"probes OK", "probes OK", "static Not Found", "static OK",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
