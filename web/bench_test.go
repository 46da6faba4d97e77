package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"cicosts/models"
	"cicosts/models/keyring"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
	"cicosts/models/usage"
)

// BenchmarkAuthentication serves one answer of the size of GET /v1/key over real connections, without authentication, with
// it, and with one GORM SELECT for each request, in turns, and reports throughputs relative to each other. Clients, server
// and PostgreSQL share the machine.
func BenchmarkAuthentication(b *testing.B) {
	const connections, rounds, turn = 64, 7, 700 * time.Millisecond
	database := storetest.Postgres(b)
	st := storetest.Open(b, database)
	counted := &countingSource{Source: st}
	owner := storetest.MustOwner(b, st)
	secret, _ := storetest.MustKey(b, st, owner)
	uses := usage.New(usage.Config{Sink: st})
	b.Cleanup(func() { uses.Close(context.Background()) })
	hashers := []*keytext.Hasher{storetest.Hasher}
	coalesced := keyring.New(keyring.Config{Source: counted, Hashers: hashers})

	good, bad := secret.Reveal(), secret.Reveal()+"x"
	variants := []*variant{
		{name: "no authentication", header: good, addr: serveBench(b, st, uses, nil)},
		{name: "keyring", header: good, addr: serveBench(b, st, uses, coalesced)},
		{name: "a SELECT each", header: good, addr: serveBench(b, st, uses, newSelectEach(b, database))},
		{name: "malformed key", header: bad, addr: serveBench(b, st, uses, coalesced)},
	}
	for b.Loop() {
		for range rounds {
			for _, v := range variants {
				before := counted.n.Load()
				v.run(b, connections, turn)
				v.statements += counted.n.Load() - before
			}
		}
	}
	bare, ring, each, malformed := variants[0], variants[1], variants[2], variants[3]
	for _, v := range variants {
		b.Logf("%-18s %8.0f requests/s, %d lookups for %d requests", v.name, v.median(), v.statements, v.requests)
	}
	b.ReportMetric(ring.median()/bare.median(), "keyring/bare")
	b.ReportMetric(ring.median()/each.median(), "keyring/select-each")
	b.ReportMetric(malformed.median()/bare.median(), "malformed/bare")
	b.ReportMetric(float64(ring.statements)/float64(ring.requests)*10_000, "lookups/10k-requests")
	if malformed.statements != 0 {
		b.Errorf("malformed keys brought %d statements", malformed.statements)
	}
}

// variant is one way to serve, and how fast it was in each turn.
type variant struct {
	name, addr, header   string
	perSecond            []float64
	requests, statements int64
}

func (v *variant) median() float64 {
	s := slices.Sorted(slices.Values(v.perSecond))
	return s[len(s)/2]
}

// run keeps connections busy for a turn.
func (v *variant) run(b *testing.B, connections int, turn time.Duration) {
	var wg sync.WaitGroup
	var total atomic.Int64
	start := time.Now()
	for range connections {
		wg.Go(func() {
			n, err := hammer(v.addr, v.header, start.Add(turn))
			total.Add(n)
			if err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	v.requests += total.Load()
	v.perSecond = append(v.perSecond, float64(total.Load())/time.Since(start).Seconds())
}

// hammer sends one request after the other on one connection. Since all answers are of one length, it need not parse them.
func hammer(addr, key string, until time.Time) (n int64, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	request := []byte("GET /v1/answer HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + key + "\r\n\r\n")
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	counted := &countingReader{r: conn}
	resp, err := http.ReadResponse(bufio.NewReaderSize(counted, 4096), nil)
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	answer := make([]byte, counted.n)
	status := fmt.Sprintf("HTTP/1.1 %d", resp.StatusCode)
	for time.Now().Before(until) {
		if _, err := conn.Write(request); err != nil {
			return n, err
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			return n, err
		}
		if string(answer[:len(status)]) != status {
			return n, errors.New("another status than at first: " + string(answer))
		}
		n++
	}
	return n, nil
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// keyAnswer is an answer to GET /v1/key.
var keyAnswer = []byte(`{"data":{"id":"key_73XWX3WNCK3L47VJMKBHDB","name":"Grafana cost dashboard","mode":"live","permissions":["costs:read","alerts:read"],"created_at":"2026-11-23T10:00:30Z","expires_at":"2027-02-21T10:00:30Z","last_used_at":null,"account":{"id":"acct_6H2SXAGUXVQVWHLBV3MM2F","name":"Acme"}},"meta":{"request_id":"req_42OGAZDAIAQEA4ZZVGGHC6","timestamp":"2026-11-23T10:00:30Z"}}`)

// serveBench serves one answer behind everything that the API's requests go through; keys nil leaves authentication out.
func serveBench(b *testing.B, st *store.Store, uses Recorder, keys Verifier) string {
	s := &server{Config: Config{
		Store: st, Keys: keys, Uses: uses, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Now: time.Now,
	}, base: &url.URL{Scheme: "http", Host: "bench"}}
	e := echo.New()
	e.HTTPErrorHandler = s.handleError
	e.IPExtractor = clientAddress(nil)
	e.Use(s.observe, s.protect)
	middleware := []echo.MiddlewareFunc{bound}
	if keys != nil {
		middleware = append(middleware, s.authenticate("GET /v1/answer", models.CostsRead))
	}
	e.GET("/v1/answer", func(c echo.Context) error { return c.JSONBlob(http.StatusOK, keyAnswer) }, middleware...)
	srv := httptest.NewServer(headAsGet(e))
	b.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// countingSource counts the statements that look keys up.
type countingSource struct {
	keyring.Source
	n atomic.Int64
}

func (c *countingSource) KeysByHash(ctx context.Context, h []keytext.Hash, found []models.KeyState) ([]models.KeyState, error) {
	c.n.Add(1)
	return c.Source.KeysByHash(ctx, h, found)
}

// selectEach is what the keyring is compared with: one SELECT through GORM for each request.
type selectEach struct{ db *gorm.DB }

func newSelectEach(b *testing.B, url string) *selectEach {
	db, err := gorm.Open(gormpostgres.Open(url), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
	if err != nil {
		b.Fatal(err)
	}
	sqlDB, err := db.DB()
	if err != nil {
		b.Fatal(err)
	}
	sqlDB.SetMaxOpenConns(8)
	sqlDB.SetMaxIdleConns(8)
	b.Cleanup(func() { sqlDB.Close() })
	return &selectEach{db}
}

func (s *selectEach) Verify(ctx context.Context, text string) (models.Principal, error) {
	secret, err := keytext.Parse(text)
	if err != nil {
		return models.Principal{}, err
	}
	var k models.APIKey
	if err := s.db.WithContext(ctx).Where("hash = ?", storetest.Hasher.Hash(secret)).Take(&k).Error; err != nil {
		return models.Principal{}, models.ErrKeyUnknown
	}
	if k.StatusAt(models.At(time.Now())) != models.StatusActive {
		return models.Principal{}, models.ErrKeyRevoked
	}
	return models.Principal{KeyID: k.ID, AccountID: k.AccountID, Mode: k.Mode, Permissions: k.Permissions}, nil
}

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
	handler, err := New(Config{
		Store: st, Keys: keyring.New(keyring.Config{Source: st, Hashers: []*keytext.Hasher{storetest.Hasher}}),
		Uses: discard{}, Hasher: storetest.Hasher, SecretID: storetest.Secret, CookieKeys: [][]byte{make([]byte, 32), make([]byte, 32)},
		BaseURL: "http://bench", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	l.handler = handler
	l.cookie = signedInCookie(b, st, owner)
	return l
}

type discard struct{}

func (discard) Record(models.LastUse) {}

// signedInCookie returns the cookie of a new session of the user.
func signedInCookie(b *testing.B, st *store.Store, v models.Visitor) *http.Cookie {
	sessions := newSessions(st, [][]byte{make([]byte, 32), make([]byte, 32)}, false)
	rec := httptest.NewRecorder()
	c := echo.New().NewContext(httptest.NewRequest(http.MethodPost, "/login", nil), rec)
	if err := sessions.Start(c, v.UserID, v.Email); err != nil {
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

func (l *listBench) open(b *testing.B, query string) time.Duration {
	r := httptest.NewRequest(http.MethodGet, "/settings/api"+query, nil)
	r.AddCookie(l.cookie)
	rec := httptest.NewRecorder()
	start := time.Now()
	l.handler.ServeHTTP(rec, r)
	took := time.Since(start)
	if rec.Code != http.StatusOK {
		b.Fatalf("%s: %d", query, rec.Code)
	}
	return took
}
