package web

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/keyring"
	"cicosts/models/keytext"
	"cicosts/models/password"
	"cicosts/models/revocation"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
	"cicosts/models/usage"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// site is a running server on a database of its own.
type site struct {
	t       testing.TB
	url     string // the database's
	address string // http://host:port
	st      *store.Store
	uses    *usage.Recorder // saves nothing before it is closed
	revoker *revocation.Revoker
	cfg     Config
	log     *logBuffer
	clock   *clock
}

// eachSite runs fn on a server on SQLite and on one on PostgreSQL.
func eachSite(t *testing.T, fn func(t *testing.T, s *site), change ...func(*Config)) {
	t.Helper()
	storetest.EachURL(t, func(t *testing.T, url string) { fn(t, newSite(t, url, change...)) })
}

// sqliteSite is for what does not depend on the database.
func sqliteSite(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	return newSite(t, storetest.SQLite(t), change...)
}

func newSite(t testing.TB, url string, change ...func(*Config)) *site {
	t.Helper()
	return startSite(t, url, &clock{}, &logBuffer{}, change...)
}

// replica is another server on the same database, with the same secret, clock and log.
func (s *site) replica(change ...func(*Config)) *site {
	s.t.Helper()
	return startSite(s.t, s.url, s.clock, s.log, change...)
}

func startSite(t testing.TB, url string, c *clock, log *logBuffer, change ...func(*Config)) *site {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: url, Now: c.Now})
	if err != nil {
		t.Fatalf("opening %s: %v", url, err)
	}
	t.Cleanup(func() { st.Close() })
	if err := st.UseSecrets(t.Context(), []string{storetest.Secret}); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, url: url, st: st, log: log, clock: c}
	s.uses = usage.New(usage.Config{Sink: st, Every: time.Hour, Soon: time.Hour})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.uses.Close(ctx) // a test may have broken the database
	})
	s.revoker = revocation.New(revocation.Config{Store: st, Patience: time.Minute, Log: slog.New(slog.NewJSONHandler(log, nil))})
	t.Cleanup(func() { s.revoker.Close(context.Background()) })
	cfg := Config{
		Store: st, Revoker: s.revoker, Uses: s.uses, Hasher: storetest.Hasher, SecretID: storetest.Secret,
		// Patient, as the tests of other packages run beside these.
		Keys:       keyring.New(keyring.Config{Source: st, Hashers: []*keytext.Hasher{storetest.Hasher}, Timeout: 10 * time.Second, HedgeAfter: 5 * time.Second}),
		CookieKeys: [][]byte{bytes.Repeat([]byte("s"), 32), bytes.Repeat([]byte("e"), 32)},
		BaseURL:    "http://cicosts.example", Log: slog.New(slog.NewJSONHandler(log, nil)), Now: c.Now,
	}
	for _, fn := range change {
		fn(&cfg)
	}
	s.cfg = cfg
	handler, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.address = server.URL
	return s
}

func withBase(url string) func(*Config) { return func(c *Config) { c.BaseURL = url } }

// clock is the real one, set forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time           { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration)  { c.ahead.Add(int64(d)) }
func (c *clock) setAhead(d time.Duration) { c.ahead.Store(int64(d)) }
func (s *site) must(err error)            { s.t.Helper(); mustBeNil(s.t, err) }
func mustBeNil(t testing.TB, err error)   { t.Helper(); mustf(t, err == nil, "%v", err) }
func mustf(t testing.TB, ok bool, f string, args ...any) {
	t.Helper()
	if !ok {
		t.Fatalf(f, args...)
	}
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

const goodPassword = "correct horse battery staple"

// passwordHash is goodPassword's, made once since it takes 25 ms.
var passwordHash = sync.OnceValues(func() (string, error) { return password.Hash(context.Background(), goodPassword) })

var people atomic.Int64

// addUser adds a person who can sign in with goodPassword.
func (s *site) addUser(account string, role models.Role) models.Visitor {
	s.t.Helper()
	hash, err := passwordHash()
	s.must(err)
	v, err := s.st.AddUser(s.t.Context(), models.Operator, models.NewUser{
		Email: fmt.Sprintf("person%d@example.com", people.Add(1)), Account: account, Role: role, PasswordHash: hash,
	})
	s.must(err)
	return v
}

// signedIn is a browser of a new person with the role in the account.
func (s *site) signedIn(account string, role models.Role) (*browser, models.Visitor) {
	s.t.Helper()
	v := s.addUser(account, role)
	b := s.browser()
	b.signIn(v.Email)
	return b, v
}

// owner is a browser of the owner of a new account.
func (s *site) owner() (*browser, models.Visitor) {
	s.t.Helper()
	return s.signedIn(fmt.Sprintf("Account %d", people.Add(1)), models.RoleOwner)
}
