package web

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cicosts/models"
	"cicosts/models/store/storetest"
	"cicosts/static"
)

// plain returns the answer's text, and fails unless the headers tell truly how
// it was sent.
func (a *answer) plain() string {
	a.t.Helper()
	if n, err := strconv.Atoi(a.header.Get("Content-Length")); err == nil && n != len(a.body) {
		a.t.Errorf("%s: Content-Length %d, but %d bytes", a.asked, n, len(a.body))
	}
	switch coding := a.header.Get("Content-Encoding"); coding {
	case "":
		return a.body
	case "gzip":
		r, err := gzip.NewReader(strings.NewReader(a.body))
		mustBeNil(a.t, err)
		text, err := io.ReadAll(r)
		mustBeNil(a.t, err)
		if a.header.Get("Content-Length") == "" {
			a.t.Errorf("%s: compressed without a Content-Length", a.asked)
		}
		return string(text)
	default:
		a.t.Errorf("%s: Content-Encoding %q", a.asked, coding)
		return ""
	}
}

func (a *answer) compressed() bool { return a.header.Get("Content-Encoding") == "gzip" }

// wantCompressed fails unless a is compressed or not, as want says, and tells
// caches what it depends on.
func (a *answer) wantCompressed(want bool) *answer {
	a.t.Helper()
	if a.compressed() != want {
		a.t.Errorf("%s: compressed %t, want %t (%d bytes)", a.asked, a.compressed(), want, len(a.body))
	}
	if vary := a.header.Values("Vary"); len(a.plain()) >= minCompressed && !slices.Equal(vary, []string{"Accept-Encoding"}) {
		a.t.Errorf("%s: Vary %v", a.asked, vary)
	}
	return a
}

// variable is what differs from one answer to the same request to the next.
func variable(a *answer) string {
	return strings.ReplaceAll(a.plain(), a.header.Get("X-Request-Id"), "REQUEST")
}

// Pages and answers of the API are compressed where that saves something,
// errors included, and are the same without it.
func TestAnswersAreCompressed(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	var secret, id string
	for i := range models.KeyPageSize {
		text, key := storetest.MustKey(t, s.st, owner, func(k *models.APIKey, _ *models.Expiry) {
			k.Name = fmt.Sprintf("Grafana dashboard of team %d", i)
		})
		secret, id = text.Reveal(), key.ID
	}
	for _, path := range []string{"/settings/api", "/settings/api/new", "/settings/api/keys/" + id, "/settings/api/keys/" + id + "/revoke", "/settings/api/keys/none", "/nowhere"} {
		b.get(path, "Accept-Encoding", "gzip").wantCompressed(true)
		refused := b.get(path, "Accept-Encoding", "gzip;q=0").wantCompressed(false)
		b.get(path, "Accept-Encoding", "identity").wantCompressed(false)
		if path != "/settings/api/new" { // whose form has a token of its own each time
			if got := variable(b.get(path, "Accept-Encoding", "br, gzip")); got != variable(refused) {
				t.Errorf("%s differs when compressed:\n%s", path, got)
			}
		}
	}
	page := b.get("/settings/api", "Accept-Encoding", "gzip, deflate, br, zstd").wantCompressed(true)
	if n := strings.Count(page.plain(), "data-key-id="); n != models.KeyPageSize {
		t.Errorf("%d keys on the page", n)
	}
	if len(page.body) > 8<<10 {
		t.Errorf("a page of %d keys has %d bytes, more than 8 KiB", models.KeyPageSize, len(page.body))
	}
	s.browser().get("/login", "Accept-Encoding", "gzip").wantCompressed(true)

	bearer := []string{"Authorization", "Bearer " + secret, "Accept-Encoding", "gzip"}
	costs := "/v1/costs?start_date=2026-01-01&end_date=2026-03-31"
	b.get(costs, bearer...).wantCompressed(true)
	b.get("/v1/key", bearer...).wantCompressed(false)                                               // it is small
	b.get("/v1/costs?start_date=x", bearer...).want(http.StatusBadRequest).wantCompressed(false)    // and so are errors
	b.get("/v1/key", "Accept-Encoding", "gzip").want(http.StatusUnauthorized).wantCompressed(false) // likewise
}

// An answer that cannot have a body has none, and HEAD has the headers of GET.
func TestAnswersWithoutBodyAreNotCompressed(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	secret, key := storetest.MustKey(t, s.st, owner)
	asked := []string{"Accept-Encoding", "gzip"}
	got, head := b.get("/settings/api", asked...), b.send(http.MethodHead, "/settings/api", "", asked...)
	if head.body != "" || !head.compressed() || head.header.Get("Content-Length") == "" || head.header.Get("Vary") != got.header.Get("Vary") {
		t.Errorf("HEAD: headers %v, body %q", head.header, head.body)
	}
	for _, a := range []*answer{
		b.post("/settings/api/keys/"+key.ID+"/revoke", nil, asked...).want(http.StatusSeeOther),
		s.browser().get("/settings/api", asked...).want(http.StatusSeeOther),
		b.get("/settings/api/keys/"+key.ID, "Accept-Encoding", "gzip", "HX-Request", "true").want(http.StatusOK),
	} {
		if a.body != "" || a.compressed() {
			t.Errorf("%s: headers %v, body %q", a.asked, a.header, a.body)
		}
	}
	other, _ := storetest.MustKey(t, s.st, owner)
	a := b.send(http.MethodDelete, "/v1/key", "", append(asked, "Authorization", "Bearer "+other.Reveal())...).want(http.StatusNoContent)
	if a.compressed() || a.header.Get("Content-Length") != "" {
		t.Errorf("204: headers %v", a.header)
	}
	b.get("/v1/key", append(asked, "Authorization", "Bearer "+secret.Reveal())...).want(http.StatusUnauthorized).wantCompressed(false)
}

// Pages that show a secret are sent as they are, however long, also where the
// form is shown again.
func TestSecretsAreNotCompressed(t *testing.T) {
	s := sqliteSite(t)
	s.mintToken(setupToken)
	asked := []string{"Accept-Encoding", "gzip"}
	b := s.browser()
	wrong := setupForm(setupToken)
	wrong.Set("password", "short")
	_, owner := s.owner() // also ends the setup
	pages := []*answer{
		b.get("/setup?token="+setupToken, asked...), b.post("/setup", wrong, asked...),
	}
	admin := s.browser()
	admin.signIn(owner.Email)
	created := admin.post("/settings/api/keys", newKeyForm(admin, "A key"), asked...).want(http.StatusOK)
	created.revealed()
	pages = append(pages, created,
		admin.post("/settings/api/keys", newKeyForm(admin, ""), asked...).want(http.StatusUnprocessableEntity),
		admin.post("/settings/api/keys", newKeyForm(admin, "Another"), append(asked, "HX-Request", "true", "HX-Target", "dialog")...).want(http.StatusOK),
	)
	for _, a := range pages {
		if a.compressed() {
			t.Errorf("%s: compressed", a.asked)
		}
		if !strings.HasPrefix(strings.TrimSpace(a.body), "<") {
			t.Errorf("%s: not a page: %q", a.asked, a.body[:min(len(a.body), 80)])
		}
	}
	if len(created.body) < minCompressed {
		t.Errorf("the page that shows the key has %d bytes only, so this test shows nothing", len(created.body))
	}
}

// Static files heed what the client accepts by the same rules as pages.
func TestStaticFilesAreCompressed(t *testing.T) {
	s := sqliteSite(t)
	for accepted, want := range map[string]bool{"gzip": true, "x-gzip;q=0.1": true, "gzip;q=0": false, "*;q=0": false, "identity": false} {
		a := s.browser().get(static.CSS.URL, "Accept-Encoding", accepted).want(http.StatusOK)
		if a.compressed() != want {
			t.Errorf("Accept-Encoding: %s: compressed %t", accepted, a.compressed())
		}
		if vary := a.header.Values("Vary"); !slices.Equal(vary, []string{"Accept-Encoding"}) {
			t.Errorf("Vary %v", vary)
		}
		if !strings.Contains(a.plain(), ":root") {
			t.Error("not the style sheet")
		}
	}
}

// BenchmarkCompress compares the levels on a page of 50 keys.
func BenchmarkCompress(b *testing.B) {
	st := storetest.Open(b, storetest.SQLite(b))
	l := newListBench(b, st, models.KeyPageSize)
	page := l.page(b, "")
	for _, level := range []int{gzip.BestSpeed, 3, gzip.DefaultCompression, gzip.BestCompression} {
		b.Run(fmt.Sprintf("level %d", level), func(b *testing.B) {
			var buf bytes.Buffer
			w, err := gzip.NewWriterLevel(&buf, level)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				buf.Reset()
				w.Reset(&buf)
				if _, err := w.Write(page); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(buf.Len()), "bytes")
		})
	}
}
