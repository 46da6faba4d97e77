package store_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"gorm.io/gorm"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// callAll calls every method once.
func (c *caller) callAll() {
	c.Helper()
	c.round++
	methods := reflect.TypeOf(c.Store)
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		call := calls[name]
		if call == nil {
			continue
		}
		if err := call(c); err != nil {
			c.Errorf("round %d: %s: %v", c.round, name, err)
		}
	}
}

// newCaller returns a caller on the database at url that logs to log until the
// test ends.
func newCaller(t *testing.T, url string, log *bytes.Buffer) *caller {
	t.Helper()
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	c := &caller{T: t, url: url}
	var err error
	c.Store, err = store.Open(t.Context(), store.Config{URL: url, Now: func() time.Time { return time.Now().Add(c.ahead) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.owner = storetest.MustOwner(t, c.Store)
	c.by = storetest.Actor(c.owner)
	return c
}

// tables returns the names of all tables.
func tables(t *testing.T, url string) []string {
	t.Helper()
	query := "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
	if strings.HasPrefix(url, "sqlite:") {
		query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
	}
	return column(t, url, query)
}

// column returns the texts that a query answers.
func column(t *testing.T, url, query string) (texts []string) {
	t.Helper()
	rows, err := storetest.DB(t, url).QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return texts
}

// A newer program may add columns while this one runs. No call fails for it,
// not even the first.
func TestAddedColumns(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		var log bytes.Buffer
		c := newCaller(t, url, &log)
		c.callAll()
		for _, table := range tables(t, url) {
			c.exec("ALTER TABLE %s ADD COLUMN added_later TEXT NOT NULL DEFAULT ''", table)
		}
		c.callAll()
		if strings.Contains(log.String(), "schema has changed") {
			t.Errorf("a statement was stale: %s", &log)
		}
	})
}

// Statements that PostgreSQL has prepared for columns of another type are
// prepared anew, at the first call.
func TestChangedTypes(t *testing.T) {
	url := storetest.Postgres(t)
	var log bytes.Buffer
	c := newCaller(t, url, &log)
	c.callAll()
	changeTypes(t, url)
	c.callAll()
	if strings.Contains(log.String(), "cached plan") {
		t.Errorf("the log says: %s", &log)
	}
}

// changeTypes gives every text column another type that holds the same.
func changeTypes(t *testing.T, url string) {
	t.Helper()
	for _, statement := range column(t, url, `SELECT format('ALTER TABLE %I ALTER COLUMN %I TYPE varchar(500)', table_name, column_name)
		FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'text'`) {
		storetest.Exec(t, url, statement)
	}
}

// All connections hold stale statements at once, and no revocation, page or
// lookup fails for it.
func TestChangedTypesOnManyConnections(t *testing.T) {
	url := storetest.Postgres(t)
	st := storetest.Open(t, url)
	owner := storetest.MustOwner(t, st)
	atOnce := func() {
		t.Helper()
		const callers = 16
		var ids [callers]string
		var secrets [callers]keytext.Secret
		for i := range ids {
			secret, key := storetest.MustKey(t, st, owner)
			ids[i], secrets[i] = key.ID, secret
		}
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() {
				if _, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, id); err != nil {
					t.Errorf("revoking: %v", err)
				}
			})
			wg.Go(func() {
				if _, err := st.Key(t.Context(), owner.AccountID, id); err != nil {
					t.Errorf("reading: %v", err)
				}
			})
			wg.Go(func() {
				found, err := st.KeysByHash(t.Context(), []keytext.Hash{storetest.Hasher.Hash(secrets[i])}, false, nil)
				if err != nil || len(found) != 1 {
					t.Errorf("looking up: %v, %v", found, err)
				}
			})
		}
		wg.Wait()
	}
	for range 3 {
		atOnce()
	}
	changeTypes(t, url)
	atOnce()
}

// One lookup with a stale statement replaces every connection, as the others
// hold it too.
func TestStaleLookup(t *testing.T) {
	url := storetest.Postgres(t)
	pool, err := pgxpool.New(t.Context(), url+"&pool_max_conns=3")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	lookUp := func() {
		t.Helper()
		if _, err := store.LookupAnywhere(t.Context(), pool, []keytext.Hash{{}}); err != nil {
			t.Error(err)
		}
	}
	// each has fn called with one connection left in the pool, a different one
	// each time.
	each := func(fn func(pid uint32)) {
		t.Helper()
		var conns [3]*pgxpool.Conn
		for i := range conns {
			if conns[i], err = pool.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, conn := range conns {
			pid := conn.Conn().PgConn().PID()
			conn.Release()
			fn(pid)
		}
	}
	var before []uint32
	each(func(pid uint32) { lookUp(); before = append(before, pid) })
	storetest.Exec(t, url, "ALTER TABLE api_keys ALTER COLUMN id TYPE varchar(500)")
	lookUp()
	each(func(pid uint32) {
		if slices.Contains(before, pid) {
			t.Error("an old connection is left")
		}
	})
}

// A change whose statements stay stale is tried twice, and is an outage then.
func TestStaleChange(t *testing.T) {
	c := newCaller(t, storetest.Postgres(t), &bytes.Buffer{})
	_, key := c.key()
	tries := 0
	err := c.ChangeByKey(t.Context(), "testing", models.Principal{KeyID: key.ID, AccountID: key.AccountID}, models.FullAccess,
		func(*gorm.DB, models.Instant) error {
			tries++
			return &pgconn.PgError{Code: "0A000", Routine: "RevalidateCachedQuery"}
		})
	if tries != 2 || models.CodeOf(err) != models.CodeUnavailable {
		t.Errorf("tried %d times: %v", tries, err)
	}
}

// Columns that a query does not name are those of the moment, and a migration
// may add some while this program runs.
func TestQueriesNameTheirColumns(t *testing.T) {
	everything := regexp.MustCompile(`(?i)\b(select|returning|distinct|all)\s+\*|\b\w+\.\*`)
	for text, want := range map[string]bool{
		"SELECT * FROM x": true, "x RETURNING *": true, "k.*, 1": true, "SELECT DISTINCT * FROM x": true,
		"SELECT count(*) FROM x": false, "SELECT a * 2": false,
	} {
		if everything.MatchString(text) != want {
			t.Errorf("%q is judged wrongly", text)
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING && everything.MatchString(text.Value) {
				t.Errorf("%s: %s does not name its columns", fset.Position(text.Pos()), text.Value)
			}
			return true
		})
	}
}
