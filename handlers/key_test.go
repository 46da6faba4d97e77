package handlers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/views"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) models.Instant { return models.At(noon.Add(-d)) }

func TestNotes(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name                            string
		created, expires, revoked, used models.Instant
		want                            []string
	}{
		{"new", ago(time.Hour), 0, 0, 0, nil},
		{"in use", ago(40 * day), 0, 0, ago(day), nil},
		{"expires later", ago(day), ago(-14*day - time.Second), 0, 0, nil},
		{"expires in 14 days", ago(day), ago(-14 * day), 0, 0, []string{"due: expires in 14 days"}},
		{"expires tomorrow", ago(day), ago(-day - time.Hour), 0, 0, []string{"due: expires in 1 day"}},
		{"expires today", ago(day), ago(-time.Hour), 0, 0, []string{"due: expires within 24 hours"}},
		{"expires now", ago(day), ago(0), 0, 0, []string{"off: expired Mar 10, 2026"}},
		{"never used for long", ago(30 * day), 0, 0, 0, []string{"due: never used"}},
		{"never used for almost as long", ago(30*day - time.Second), 0, 0, 0, nil},
		{"unused for long", ago(80 * day), 0, 0, ago(31 * day), []string{"due: unused for 31 days"}},
		{"old", ago(90 * day), 0, 0, ago(day), []string{"due: 90 days old"}},
		{"everything", ago(100 * day), ago(-3 * day), 0, ago(50 * day), []string{"due: expires in 3 days", "due: 100 days old", "due: unused for 50 days"}},
		{"revoked", ago(100 * day), ago(3 * day), ago(2 * day), 0, []string{"off: revoked Mar 8, 2026"}},
	} {
		k := models.KeyRecord{APIKey: models.APIKey{CreatedAt: tt.created, ExpiresAt: tt.expires, RevokedAt: tt.revoked}, LastUse: models.LastUse{UsedAt: tt.used}}
		var got []string
		for _, n := range keyRow(&k, nil, models.RoleOwner, noon).Notes {
			got = append(got, n.Kind+": "+n.Text)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestKeyRow(t *testing.T) {
	today := models.At(noon).Day()
	uses := []models.DailyUse{
		{Day: today, Outcome: models.OutcomeAccepted, Requests: 5},
		{Day: today, Outcome: models.OutcomeForbidden, Requests: 2},
		{Day: today, Outcome: models.OutcomeExpired, Requests: 1},
		{Day: today - 29, Outcome: models.OutcomeAccepted, Requests: 1},
		{Day: today - 30, Requests: 100},
		{Day: today + 1, Requests: 100},
	}
	k := models.KeyRecord{APIKey: models.APIKey{ID: "key_x", Mode: keytext.Test, Hint: "9xYz", CreatedAt: ago(time.Hour)}}
	row := keyRow(&k, uses, models.RoleMember, noon)
	want := make([]views.Day, 30)
	for i := range want {
		want[i].At = time.Date(2026, 2, 9+i, 0, 0, 0, 0, time.UTC)
	}
	want[29].Accepted, want[29].Refused, want[0].Accepted = 5, 3, 1
	if diff := cmp.Diff(want, row.Days); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}
	if row.Hint != "cic_test_…9xYz" || row.Status != "active" || row.LastUsed.Text != "Never" {
		t.Errorf("row %+v", row)
	}
	for role, want := range map[models.Role]bool{models.RoleOwner: true, models.RoleAdmin: true, models.RoleMember: false, models.RoleViewer: false, "": false} {
		if got := keyRow(&k, nil, role, noon).CanRevoke; got != want {
			t.Errorf("%q may revoke: %v", role, got)
		}
	}
	k.RevokedAt = ago(time.Minute)
	if keyRow(&k, nil, models.RoleOwner, noon).CanRevoke {
		t.Error("a revoked key can be revoked")
	}
}

func TestRouteUses(t *testing.T) {
	got := routeUses([]models.DailyUse{
		{Day: 1, Route: "GET /v1/key", Outcome: models.OutcomeAccepted, Requests: 2},
		{Day: 2, Route: "GET /v1/key", Outcome: models.OutcomeAccepted, Requests: 3},
		{Day: 1, Route: "GET /v1/costs", Outcome: models.OutcomeAccepted, Requests: 5},
		{Day: 1, Route: "GET /v1/costs", Outcome: models.OutcomeForbidden, Requests: 1234},
	})
	want := []views.RouteUse{
		{Route: "GET /v1/costs", Outcome: "refused: no permission", Requests: "1,234"},
		{Route: "GET /v1/costs", Outcome: "accepted", Requests: "5"},
		{Route: "GET /v1/key", Outcome: "accepted", Requests: "5"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestExpiryOptions(t *testing.T) {
	var got []string
	for _, o := range expiryOptions("90", noon) {
		line := o.Value + ": " + o.Label
		if o.Selected {
			line += " *"
		}
		got = append(got, line)
	}
	want := []string{
		"never: Never", "30: In 30 days: Apr 9, 2026", "60: In 60 days: May 9, 2026", "90: In 90 days: Jun 8, 2026 (recommended) *",
		"180: In 180 days: Sep 6, 2026", "365: In 365 days: Mar 10, 2027", "custom: On a date",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestCurl(t *testing.T) {
	p := New(Config{BaseURL: "https://cicosts.example"})
	secret := keytext.Mint(keytext.Live)
	for path, url := range map[string]string{"/v1/key": "https://cicosts.example/v1/key", "/v1/costs?a=b&c=d": `"https://cicosts.example/v1/costs?a=b&c=d"`} {
		want := "export CICOSTS_API_KEY=" + secret.Reveal() + "\ncurl -H \"Authorization: Bearer $CICOSTS_API_KEY\" \\\n  " + url + "\n"
		if got := p.curl(secret, path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"é", 1, ""}, {"", 0, ""}, {"a🔑b", 4, "a"}, {"a🔑b", 5, "a🔑"}} {
		if got := clip(tt.s, tt.n); got != tt.want {
			t.Errorf("%q after %d: %q", tt.s, tt.n, got)
		}
	}
	if got := clip(strings.Repeat("x", 500), 100); len(got) != 100 {
		t.Errorf("%d bytes", len(got))
	}
}
