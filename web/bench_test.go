package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/models/keyring"
	"cicosts/models/keytext"
	"cicosts/models/revocation"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// BenchmarkList opens the list, and a search in it, in an account of 50 keys and in one of 10,000, in turns.
func BenchmarkList(b *testing.B) {
	for name, fresh := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			database := fresh(b)
			st := storetest.Open(b, database)
			few, many := newListBench(b, st, 50), newListBench(b, st, 10_000)
			storetest.Exec(b, database, "INSERT INTO last_uses SELECT id, false, created_at, '192.0.2.1', 'curl', 'GET /v1/costs', 'accepted' FROM api_keys")
			for day := range 5 {
				storetest.Exec(b, database, fmt.Sprintf("INSERT INTO daily_uses SELECT id, %d, 'GET /v1/costs', 'accepted', 7 FROM api_keys",
					models.At(time.Now()).Day()-models.Day(day)))
			}
			if name == "postgres" {
				storetest.Exec(b, database, "VACUUM ANALYZE") // as autovacuum does within a minute
			}
			for b.Loop() {
				for range 60 {
					for _, l := range []*listBench{few, many} {
						l.list = append(l.list, l.open(b, ""))
						l.common = append(l.common, l.open(b, "?q=grafana"))
						l.rare = append(l.rare, l.open(b, "?q="+l.rareName))
						l.none = append(l.none, l.open(b, "?q=zzz+nothing"))
						l.all = append(l.all, l.open(b, "?status=all"))
					}
				}
			}
			report := func(what string, few, many []time.Duration) {
				b.Logf("%-14s %8v with 50 keys, %8v with 10,000", what, middle(few), middle(many))
				b.ReportMetric(float64(middle(many))/float64(middle(few)), what+"-10k/50")
			}
			report("list", few.list, many.list)
			report("common", few.common, many.common)
			report("rare", few.rare, many.rare)
			report("none", few.none, many.none)
			report("all", few.all, many.all)
		})
	}
}

type listBench struct {
	handler                       http.Handler
	cookie                        *http.Cookie
	rareName                      string
	list, common, rare, none, all []time.Duration
}

func middle(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2].Round(time.Microsecond)
}

func newListBench(b *testing.B, st *store.Store, keys int) *listBench {
	owner := storetest.MustOwner(b, st)
	l := &listBench{rareName: fmt.Sprintf("needle%d", keys)}
	for i := range keys {
		storetest.MustKey(b, st, owner, func(k *models.APIKey, _ *models.Expiry) {
			k.Name = fmt.Sprintf("Grafana dashboard of team %d", i)
			if i == keys/2 {
				k.Name = "One " + l.rareName + " in the hay"
			}
		})
	}
	l.handler = newWhole(b, st, discard{})
	l.cookie = signedInCookie(b, st, owner)
	return l
}

// newWhole is all that the program serves.
func newWhole(b *testing.B, st *store.Store, uses Recorder) http.Handler {
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	revoker := revocation.New(revocation.Config{Store: st, Log: log})
	b.Cleanup(func() { revoker.Close(context.Background()) })
	handler, err := New(Config{
		Store: st, Revoker: revoker, Keys: keyring.New(keyring.Config{Source: st, Hashers: []*keytext.Hasher{storetest.Hasher}}),
		Uses: uses, Hasher: storetest.Hasher, SecretID: storetest.Secret, CookieKeys: [][]byte{make([]byte, 32), make([]byte, 32)},
		BaseURL: "http://bench", Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	return handler
}

type discard struct{}

func (discard) Record(models.LastUse) {}

// signedInCookie returns the cookie of a new session of the user.
func signedInCookie(b *testing.B, st *store.Store, v models.Visitor) *http.Cookie {
	sessions := newSessions(st, [][]byte{make([]byte, 32), make([]byte, 32)}, false)
	rec := httptest.NewRecorder()
	c := echo.New().NewContext(httptest.NewRequest(http.MethodPost, "/login", nil), rec)
	if err := sessions.Start(c, storetest.SignIn(v, "").User); err != nil {
		b.Fatal(err)
	}
	for _, cookie := range rec.Result().Cookies() {
		if cookie.Name == sessionCookie {
			return cookie
		}
	}
	b.Fatal("no session cookie")
	return nil
}

// open returns how long the list takes.
func (l *listBench) open(b *testing.B, query string) time.Duration {
	start := time.Now()
	l.page(b, query)
	return time.Since(start)
}

func (l *listBench) page(b *testing.B, query string) []byte {
	r := httptest.NewRequest(http.MethodGet, "/settings/api"+query, nil)
	r.AddCookie(l.cookie)
	rec := httptest.NewRecorder()
	l.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK {
		b.Fatalf("%s: %d", query, rec.Code)
	}
	return rec.Body.Bytes()
}
