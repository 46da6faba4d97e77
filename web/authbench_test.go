package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
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
	"cicosts/web/loadtest"
)

// BenchmarkAuthentication serves one answer of the size of GET /v1/key over real connections: without authentication, with
// it, and with one SELECT for each request, prepared and through GORM, in turns. Clients, server and PostgreSQL share the
// machine. It prints the rows of the README's table.
func BenchmarkAuthentication(b *testing.B) {
	database := storetest.Postgres(b)
	st := storetest.Open(b, database)
	secret, _ := storetest.MustKey(b, st, storetest.MustOwner(b, st))
	uses := usage.New(usage.Config{Sink: st})
	b.Cleanup(func() { uses.Close(context.Background()) })
	ring := keyring.New(keyring.Config{Source: st, Hashers: []*keytext.Hasher{storetest.Hasher}})
	variants := []struct {
		name string
		keys Verifier
	}{
		{"without authentication", nil},
		{"with it", ring},
		{"with one prepared `SELECT` each", newPreparedEach(b, database)},
		{"with one `SELECT` through GORM each", newGormEach(b, database)},
	}
	var addrs []string
	for _, v := range variants {
		addrs = append(addrs, serveBench(b, st, uses, v.keys))
	}
	for b.Loop() {
		table := "\n| connections | | requests a second | of those without | p50 | p99 |\n|---|---|---|---|---|---|\n"
		for _, connections := range []int{8, 64, 256} {
			var ways []*loadtest.Way
			for i, v := range variants {
				ways = append(ways, &loadtest.Way{Name: v.name, Addr: addrs[i], Keys: []string{secret.Reveal()}})
			}
			loadtest.Turns(b, 7, connections, 500*time.Millisecond, ways...)
			bare := ways[0]
			for _, w := range ways {
				table += fmt.Sprintf("| %d | %s | %.0f | %.2f | %v | %v |\n", connections, w.Name, w.Rate(), w.Rate()/bare.Rate(),
					round(loadtest.Percentile(w.Took, 50)), round(loadtest.Percentile(w.Took, 99)))
			}
			b.ReportMetric(ways[1].Rate()/bare.Rate(), fmt.Sprintf("keyring/bare-%d", connections))
			b.ReportMetric(ways[1].Rate()/ways[2].Rate(), fmt.Sprintf("keyring/prepared-%d", connections))
		}
		fmt.Print(table)

		bare := &loadtest.Way{Name: "without authentication", Addr: addrs[0], Keys: []string{secret.Reveal()}}
		malformed := &loadtest.Way{Name: "a malformed key", Addr: addrs[1], Keys: []string{secret.Reveal() + "x"}, Status: http.StatusUnauthorized}
		loadtest.Turns(b, 5, 64, 300*time.Millisecond, bare, malformed)
		fmt.Printf("| a malformed key, against the handler without authentication | %.2f |\n", malformed.Rate()/bare.Rate())
		b.ReportMetric(malformed.Rate()/bare.Rate(), "malformed/bare")
	}
}

// BenchmarkAlone compares a request that is alone, with the keyring and with one prepared SELECT.
func BenchmarkAlone(b *testing.B) {
	database := storetest.Postgres(b)
	st := storetest.Open(b, database)
	secret, _ := storetest.MustKey(b, st, storetest.MustOwner(b, st))
	keys := []string{secret.Reveal()}
	ring := keyring.New(keyring.Config{Source: st, Hashers: []*keytext.Hasher{storetest.Hasher}})
	for b.Loop() {
		with := &loadtest.Way{Name: "keyring", Addr: serveBench(b, st, discard{}, ring), Keys: keys}
		each := &loadtest.Way{Name: "prepared", Addr: serveBench(b, st, discard{}, newPreparedEach(b, database)), Keys: keys}
		loadtest.Turns(b, 15, 1, 200*time.Millisecond, with, each)
		p50, p50Each := loadtest.Percentile(with.Took, 50), loadtest.Percentile(each.Took, 50)
		fmt.Printf("\n| p50 at one connection, against one prepared `SELECT` each | %.2f (%v, %v) |\n",
			float64(p50)/float64(p50Each), round(p50), round(p50Each))
		b.ReportMetric(float64(p50)/float64(p50Each), "alone-p50/prepared-p50")
	}
}

// BenchmarkStatements counts what 64 connections cost the database, by its own count and by the keyring's.
func BenchmarkStatements(b *testing.B) {
	for b.Loop() {
		database := storetest.Postgres(b)
		st, err := store.Open(b.Context(), store.Config{URL: database})
		if err != nil {
			b.Fatal(err)
		}
		secret, _ := storetest.MustKey(b, st, storetest.MustOwner(b, st))
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
		before := transactions(b, database)
		if st, err = store.Open(b.Context(), store.Config{URL: database}); err != nil {
			b.Fatal(err)
		}
		counted := &countingSource{Source: st}
		ring := keyring.New(keyring.Config{Source: counted, Hashers: []*keytext.Hasher{storetest.Hasher}})
		w := &loadtest.Way{Name: "keyring", Addr: serveBench(b, st, discard{}, ring), Keys: []string{secret.Reveal()}}
		loadtest.Turns(b, 1, 64, 3*time.Second, w)
		if err := st.Close(); err != nil { // its backends report what they did as they end
			b.Fatal(err)
		}
		per := 10_000 / float64(w.Requests)
		byDatabase, own := float64(transactions(b, database)-before)*per, float64(counted.n.Load())*per
		fmt.Printf("\n| database statements for 10,000 requests, by PostgreSQL's count of transactions | %.0f |\n", byDatabase)
		b.ReportMetric(byDatabase, "transactions/10k-requests")
		b.ReportMetric(own, "lookups/10k-requests")
	}
}

// transactions returns how many were committed in a database that nobody is connected to.
func transactions(b *testing.B, database string) (n int64) {
	u, err := url.Parse(database)
	if err != nil {
		b.Fatal(err)
	}
	name := u.Path[1:]
	u.Path = "/postgres"
	db := storetest.DB(b, u.String())
	deadline := time.Now().Add(20 * time.Second)
	for last := int64(-1); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		var backends int
		if err := db.QueryRow("SELECT xact_commit, numbackends FROM pg_stat_database WHERE datname = $1", name).Scan(&n, &backends); err != nil {
			b.Fatal(err)
		}
		if backends == 0 && n == last {
			return n
		}
		last = n
	}
	b.Fatalf("%s does not come to rest", name)
	return 0
}

// BenchmarkManyKeys compares a million keys in the table with a thousand, asked for one key and for a thousand in turn.
func BenchmarkManyKeys(b *testing.B) {
	const few, many, asked = 1000, 1_000_000, 1000
	type table struct{ one, spread *loadtest.Way }
	var tables []table
	for _, size := range []int{few, many} {
		database := storetest.Postgres(b)
		st := storetest.Open(b, database)
		owner := storetest.MustOwner(b, st)
		var keys []string
		for range asked {
			secret, _ := storetest.MustKey(b, st, owner)
			keys = append(keys, secret.Reveal())
		}
		// Strangers, in another order in the index of hashes than in the table.
		db := storetest.DB(b, database)
		db.SetMaxOpenConns(1)
		for _, statement := range []string{
			// Without foreign keys and without the indexes that a lookup does not use, filling takes seconds instead of minutes.
			"SET session_replication_role = replica",
			`DO $$ DECLARE i name; BEGIN
				FOR i IN SELECT indexname FROM pg_indexes WHERE tablename = 'api_keys' AND indexname NOT IN (SELECT conname FROM pg_constraint)
				LOOP EXECUTE 'DROP INDEX ' || i; END LOOP;
			END $$`,
			fmt.Sprintf(`INSERT INTO api_keys (id, account_id, name, name_folded, mode, permissions, hint, hash, secret_id, form_token,
				created_by, created_at, expires_at, revoked_at)
				SELECT 'key_stranger' || n, account_id, name, name_folded, mode, permissions, hint, sha256(n::text::bytea), secret_id,
				'stranger' || n, created_by, created_at, expires_at, 0
				FROM generate_series(1, %d) AS n, (SELECT * FROM api_keys LIMIT 1) AS pattern`, size-asked),
			"VACUUM ANALYZE",
			"CHECKPOINT",
		} {
			if _, err := db.ExecContext(b.Context(), statement); err != nil {
				b.Fatalf("%s: %v", statement, err)
			}
		}
		db.Close()
		ring := keyring.New(keyring.Config{Source: st, Hashers: []*keytext.Hasher{storetest.Hasher}})
		addr := serveBench(b, st, discard{}, ring)
		tables = append(tables, table{
			one:    &loadtest.Way{Name: fmt.Sprintf("one of %d keys", size), Addr: addr, Keys: keys[:1]},
			spread: &loadtest.Way{Name: fmt.Sprintf("%d of %d keys", asked, size), Addr: addr, Keys: keys},
		})
	}
	for b.Loop() {
		loadtest.Turns(b, 9, 64, 500*time.Millisecond, tables[0].one, tables[1].one, tables[0].spread, tables[1].spread)
		for _, t := range tables {
			b.Logf("%-22s %8.0f requests/s; %-22s %8.0f", t.one.Name, t.one.Rate(), t.spread.Name, t.spread.Rate())
		}
		one, spread := tables[1].one.Rate()/tables[0].one.Rate(), tables[1].spread.Rate()/tables[0].spread.Rate()
		fmt.Printf("\n| throughput with 1,000,000 keys in the table, against 1,000 | %.2f (asked for one key: %.2f) |\n", spread, one)
		b.ReportMetric(one, "1M/1k-one-key")
		b.ReportMetric(spread, "1M/1k-many-keys")
	}
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

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
	middleware := []echo.MiddlewareFunc{bound(requestTimeout)}
	if keys != nil {
		middleware = append(middleware, s.authenticate(apiRoute{method: http.MethodGet, path: "/v1/key", access: needs(models.CostsRead)}))
	}
	e.GET("/v1/key", func(c echo.Context) error { return c.JSONBlob(http.StatusOK, keyAnswer) }, middleware...)
	srv := httptest.NewServer(headAsGet(e))
	b.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// countingSource counts the statements that look keys up.
type countingSource struct {
	keyring.Source
	n atomic.Int64
}

func (c *countingSource) KeysByHash(ctx context.Context, h []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	c.n.Add(1)
	return c.Source.KeysByHash(ctx, h, describe, found)
}

// eachConns is the size of the pool of the ways that the keyring is compared with, which is that of the pages'.
const eachConns = 8

// preparedEach is what the keyring is compared with: one prepared SELECT by pgx for each request.
type preparedEach struct {
	Verifier // none: the benchmarks' route asks for no Description
	pool     *pgxpool.Pool
}

func newPreparedEach(b *testing.B, url string) *preparedEach {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		b.Fatal(err)
	}
	cfg.MaxConns = eachConns
	pool, err := pgxpool.NewWithConfig(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return &preparedEach{pool: pool}
}

func (p *preparedEach) Verify(ctx context.Context, text string) (models.Principal, error) {
	secret, err := keytext.Parse(text)
	if err != nil {
		return models.Principal{}, err
	}
	hash := storetest.Hasher.Hash(secret)
	var k models.KeyState
	err = p.pool.QueryRow(ctx, `SELECT id, account_id, mode, permissions, expires_at, revoked_at,
		(extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM api_keys WHERE hash = $1`, hash[:]).
		Scan(&k.ID, &k.AccountID, (*string)(&k.Mode), (*uint16)(&k.Permissions), (*int64)(&k.ExpiresAt), (*int64)(&k.RevokedAt), (*int64)(&k.Now))
	if err != nil {
		return models.Principal{}, err
	}
	if models.StatusAt(k.ExpiresAt, k.RevokedAt, k.Now) != models.StatusActive {
		return models.Principal{}, models.ErrKeyRevoked
	}
	return models.Principal{KeyID: k.ID, AccountID: k.AccountID, Mode: k.Mode, Permissions: k.Permissions}, nil
}

// gormEach is the same through GORM.
type gormEach struct {
	Verifier // none
	db       *gorm.DB
}

func newGormEach(b *testing.B, url string) *gormEach {
	db, err := gorm.Open(gormpostgres.Open(url), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
	if err != nil {
		b.Fatal(err)
	}
	sqlDB, err := db.DB()
	if err != nil {
		b.Fatal(err)
	}
	sqlDB.SetMaxOpenConns(eachConns)
	sqlDB.SetMaxIdleConns(eachConns)
	b.Cleanup(func() { sqlDB.Close() })
	return &gormEach{db: db}
}

func (s *gormEach) Verify(ctx context.Context, text string) (models.Principal, error) {
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
