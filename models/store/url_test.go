package store_test

import (
	"os"
	"strings"
	"testing"

	"cicosts/models/store"
)

func TestCheckURL(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, url := range []string{
		"sqlite:cicosts.db", "sqlite:./data/cicosts.db", "sqlite:/var/lib/cicosts/cicosts.db", "sqlite:/data/a:b/50%#1?.db", "sqlite:memory.db",
		"postgres://h", "postgres://h/d", "postgresql://u@h/d", "postgres://u:p@one,two:5433/d?target_session_attrs=read-write&sslmode=verify-full",
		"postgres://u:p%40%3A%2F%23@db1.example:5432,db-2.example/d", "postgres://u:p:p?p#p;p=p,p&p@h/d", "postgres://u%40example.iam:p@h/d", "postgres://u@[::1]:5432/d",
		"postgres://u@h/my%20db", "postgres:///d?host=/var/run/postgresql&port=5433", "postgres://u@/d?host=%2Ftmp%2Fa,%2Ftmp%2Fb&port=1,2", "postgres://%2Frun%2Fpg/d",
		"postgres://u@h/d?application_name=a%40b&default_query_exec_mode=exec&search_path=app&timescaledb.x=1", "postgres://h/d?user=u&password=p%40%20%3D", "postgres://u@h?dbname=d",
	} {
		if err := store.CheckURL(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	// SQLite, its drivers or other programs take none of these to name a file of
	// that very name.
	for _, path := range []string{
		":memory:", ":memory:?cache=shared", "//x.db", "///tmp/x.db", "//:memory:", "file:x.db", "file:x.db?mode=memory", "file::memory:?cache=shared", "file:///x.db",
		"x.db?mode=memory&cache=shared", "x.db?_pragma=foreign_keys(0)", "dir/:memory:", ":", ":x", "a\x00b",
	} {
		checkRefused(t, "sqlite:"+path, "want sqlite:PATH with the path of a file, such as ")
	}
	for _, url := range []string{"", "sqlite:", "SQLITE:x.db", "x.db", "file:x.db", ":memory:", "postgres:", "postgres://", "postgres:///d", "postgres://u@/d", "postgres://:5432/d", "postgres://,/d", "postgres://u@/d?host="} {
		checkRefused(t, url, "want sqlite:PATH or postgres://USER@HOST/NAME")
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("made %v, %v", made, err)
	}
}

// checkRefused checks that neither CheckURL nor Open accepts the URL.
func checkRefused(t *testing.T, url, want string) {
	t.Helper()
	if err := store.CheckURL(url); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%q: %v", url, err)
	}
	if st, err := store.Open(t.Context(), store.Config{URL: url}); err == nil {
		st.Close()
		t.Errorf("%q is opened", url)
	}
}
