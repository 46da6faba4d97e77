package web

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models/store/storetest"
)

// dump returns every row of every table of the database as text, by table, whatever the order of the rows.
func (s *site) dump() map[string][]string {
	s.t.Helper()
	db := storetest.DB(s.t, s.url)
	defer db.Close()
	list := "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
	if strings.HasPrefix(s.url, "sqlite:") {
		list = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
	}
	tables := map[string][]string{}
	for _, row := range readRows(s.t, db, list) {
		tables[row] = readRows(s.t, db, "SELECT * FROM "+row)
	}
	if len(tables) < 8 {
		s.t.Fatalf("only %d tables", len(tables))
	}
	return tables
}

// readRows returns the rows of a query, their columns separated by bars. What is bytes in the database is text here.
func readRows(t testing.TB, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	mustBeNil(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	mustBeNil(t, err)
	var list []string
	for rows.Next() {
		values, pointers := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			pointers[i] = &values[i]
		}
		mustBeNil(t, rows.Scan(pointers...))
		var b strings.Builder
		for _, v := range values {
			fmt.Fprintf(&b, "%s|", text(v))
		}
		list = append(list, strings.TrimSuffix(b.String(), "|"))
	}
	mustBeNil(t, rows.Err())
	slices.Sort(list)
	return list
}

func text(v any) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(v)
}

// query returns the rows of one query on the site's database.
func (s *site) query(format string, args ...any) []string {
	s.t.Helper()
	db := storetest.DB(s.t, s.url)
	defer db.Close()
	return readRows(s.t, db, fmt.Sprintf(format, args...))
}

func (s *site) exec(format string, args ...any) {
	s.t.Helper()
	storetest.Exec(s.t, s.url, fmt.Sprintf(format, args...))
}

// wantUnchanged compares the database with a dump made before. The tables named may have changed.
func (s *site) wantUnchanged(before map[string][]string, but ...string) {
	s.t.Helper()
	after := s.dump()
	for _, table := range but {
		delete(before, table)
		delete(after, table)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		s.t.Errorf("the database has changed (-before +after):\n%s", diff)
	}
}

// actions returns what the history says was done to a target, sorted.
func (s *site) actions(target string) []string {
	s.t.Helper()
	return s.query("SELECT action, actor_type, actor_id FROM audit_events WHERE target_id = '%s'", target)
}
