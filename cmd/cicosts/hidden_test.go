package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cicosts/models/store/storetest"
)

// canary is a secret that nothing may print.
const canary = "hunter2hunter2"

// wantHidden checks that the run failed in one line, with this exit code unless
// it is 0, and printed no secret.
func (r result) wantHidden(t *testing.T, code int, about string, secrets ...string) {
	t.Helper()
	if r.code == 0 || code != 0 && r.code != code {
		t.Errorf("%s: exit code %d, want %d: %s%s", about, r.code, code, r.out, r.err)
	}
	if strings.Count(r.err, "\n") != 1 {
		t.Errorf("%s: not one line: %q", about, r.err)
	}
	for _, secret := range append(secrets, canary) {
		if strings.Contains(r.out+r.err, secret) {
			t.Errorf("%s prints the secret: %s%s", about, r.out, r.err)
		}
	}
}

// badURLs hold a password and are not of the accepted form.
var badURLs = []string{
	"postgres://u:" + canary, "postgres://u:" + canary + "/d", "postgres://u:" + canary + "@/d", "postgres://u:" + canary + "@",
	"postgres:///" + canary, "postgres:u:" + canary, "postgres:u:" + canary + "@h/d", "postgres:/u:" + canary + "@h/d",
	"postgres//u:" + canary + "@h/d", "POSTGRES://u:" + canary + "@h/d", "postgresq://u:" + canary + "@h/d", "mysql://u:" + canary + "@h/d",
	"postgres://u:" + canary + "@h:port/d", "postgres://u:" + canary + "@h:99999/d", "postgres://u:" + canary + "%zz@h/d", "postgres://u:%" + canary + "@h/d",
	"postgres://u:1@" + canary + "@h/d", "postgres://u:1/" + canary + "@h/d", "postgres://u:1#" + canary + "@@h/d",
	"postgres://h/d#" + canary, "postgres://u@h:" + canary + "/d", "postgres://u@h/d:" + canary, "postgres://u@h/d&password=" + canary,
	"postgres://u@h/d;password=" + canary, "postgres://u@h/d password=" + canary, "postgres://u@h/d/password/" + canary, "postgres://u@h/d?" + canary,
	"postgres://u@h/d?password:" + canary, "postgres://u@h/d?password:" + canary + "=", "postgres://u@h/d?password=" + canary + "&connect_timeout=x",
	"postgres://u@h:port/d?password=" + canary, "postgres://u@h/d?password=" + canary + "=x", "postgres://u@h/d?password=" + canary + "%zz", "postgres://u@h/d?sslmode=" + canary,
	"postgres://u@h/d?connect_timeout=" + canary, "postgres://u@h/d?target_session_attrs=" + canary, "postgres://u@h/d?user=u:" + canary, "postgres://u@h/d?host=u:" + canary + "@h",
	"postgres://u@h/d?host=u:" + canary, "postgres://u@h/d?port=" + canary, "postgres://u@h/d?dbname=d:" + canary, "postgres://u%3A" + canary + "@h/d", "postgres://u;" + canary + "@h/d",
	"postgres://u " + canary + "@h/d", "postgres:// u:" + canary + "@h/d", " postgres://u:" + canary + "@h/d", "postgres://u:" + canary + "@h\n/d", "postgres://u:" + canary + "@h\x00/d",
	"postgres://u:" + canary + "@[h/d", "postgres://u:" + canary + "@h%20x/d", "postgres://u@h/d?service=none&password=" + canary,
	"host=h password=" + canary, "host=h user=u password='" + canary + "' dbname=d", "password=" + canary, "u:" + canary + "@h/d", "//u:" + canary + "@h/d", canary,
	"sqlite://u:" + canary + "@h/d", "sqlite::memory:?_key=" + canary, "file:x.db?_key=" + canary, "DATABASE_URL=postgres://u:" + canary + "@h/d",
}

// A malformed database URL is never repeated, by any command, from the
// environment or a flag.
func TestMalformedDatabaseURLIsHidden(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, url := range badURLs {
		for _, args := range [][]string{{"migrate", "up"}, {"doctor"}, {"key", "list"}} {
			r := runProgram(t, "", []string{"CICOSTS_SECRET", testSecret, "CICOSTS_DATABASE_URL", url}, args...)
			r.wantHidden(t, 2, url, testSecret)
			r.want(t, 2, "CICOSTS_DATABASE_URL", "want sqlite:PATH")
			r = runProgram(t, "", nil, append(args, "--database-url", url)...)
			r.wantHidden(t, 2, url)
			r.want(t, 2, "--database-url", "want sqlite:PATH")
		}
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("made %v, %v", made, err)
	}
}

// The password of an accepted database URL is not shown when the server cannot
// be reached.
func TestFailureHidesThePassword(t *testing.T) {
	server := strings.TrimPrefix(storetest.WithHosts(storetest.Postgres(t), "127.0.0.1:1"), "postgres://")
	for _, url := range []string{
		"postgres://u:" + canary + "@127.0.0.1:1/d?connect_timeout=1",
		"postgres://u:" + canary + "@127.0.0.1:1,127.0.0.1:2/d?connect_timeout=1&sslmode=disable",
		"postgres://u@127.0.0.1:1/d?connect_timeout=1&password=" + canary,
		"postgres://u@127.0.0.1:1/d?connect_timeout=1&passfile=" + write(t, "passfile", "*:*:*:*:"+canary),
		"postgres://u@127.0.0.1:1/d?connect_timeout=1&sslpassword=" + canary,
		"postgres://127.0.0.1:1/d?connect_timeout=1&user=u&password=" + canary,
		"postgres://u:1?" + canary + "@127.0.0.1:1/d?connect_timeout=1",
		"postgres://u:1%23" + canary + "@127.0.0.1:1/d?connect_timeout=1",
		"postgres://" + server + "&password=" + canary,
	} {
		for _, args := range [][]string{{"migrate", "up"}, {"doctor"}, {"serve", "--addr", "127.0.0.1:0"}, {"key", "revoke", "key_0"}} {
			r := runProgram(t, "", []string{"CICOSTS_SECRET", testSecret, "CICOSTS_DATABASE_URL", url}, args...)
			r.wantHidden(t, 1, url, testSecret)
		}
	}
}

// A secret in the place of another setting's value is not repeated.
func TestMisplacedSecretIsHidden(t *testing.T) {
	t.Chdir(t.TempDir())
	db := newDatabase(t)
	for _, set := range settingList {
		for _, value := range []string{canary, testSecret, "cic_live_mavzfVABqZ5YsOOlB1f46R38ERRE", "cic_live_short", "https://u:" + canary + "@h", "postgres://u:" + canary + "@h:p/d"} {
			if set.env == "CICOSTS_SECRET" && value == testSecret {
				continue
			}
			r := runProgram(t, "", []string{set.env, value, "CICOSTS_DATABASE_URL", db}, "migrate", "up")
			r.wantHidden(t, 2, set.env, value, value[max(0, len(value)-16):])
			r.want(t, 2, set.env, "want ")
		}
	}
	// Neither is one that is in the file, or a part of one.
	for _, text := range []string{canary, testSecret + "," + canary, "cic_live_" + canary} {
		env := []string{"CICOSTS_DATABASE_URL", db, "CICOSTS_SECRET_FILE", write(t, "secret", text)}
		runProgram(t, "", env, "migrate", "up").wantHidden(t, 1, "the file", testSecret)
		runProgram(t, "", env, "doctor").wantHidden(t, 1, "the file", testSecret)
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("made %v, %v", made, err)
	}
}

// A key or a password given in the wrong place is not repeated, because errors
// are often logged or shown to others.
func TestMisplacedArgumentIsHidden(t *testing.T) {
	db := newDatabase(t)
	user := []string{"--email", "ada@example.com", "--account", "Acme", "--password-stdin"}
	runProgram(t, testPass, nil, append([]string{"user", "add", "--database-url", db}, user...)...).want(t, 0)
	for _, secret := range []string{"cic_live_mavzfVABqZ5YsOOlB1f46R38ERRE", "cic_test_short", "CIC_LIVE_mavz", "cic-live-mavzfVAB!qZ5", "key=cic_live_mavzfVABqZ5", "cic_live_mavz fVABqZ5"} {
		for _, tt := range []struct {
			args []string
			code int
		}{
			{[]string{secret}, 2},
			{[]string{"key", secret}, 2},
			{[]string{"key", "revoke", secret}, 2},
			{[]string{"key", "revoke", "--", secret}, 2},
			{[]string{"key", "revoke", "key_0", secret}, 2},
			{[]string{"key", "revoke", "-", secret}, 2},
			{[]string{"key", "list", secret}, 2},
			{[]string{"key", "list", "--account", secret}, 1},
			{[]string{"serve", secret}, 2},
			{[]string{"--" + secret, "serve"}, 2},
			{[]string{"import", secret, "--account", "Acme"}, 1},
			{[]string{"import", "-", "--account", secret}, 1},
			{[]string{"user", "password", "--email", secret, "--password-stdin"}, 2},
			{[]string{"user", "password", "--email", "a@example.com", "--password-stdin=" + secret}, 2},
			{[]string{"user", "add", "--email", "b@example.com", "--account", "Acme", "--password-stdin", "--role", secret}, 2},
		} {
			r := runProgram(t, "", nil, append([]string{"--database-url", db}, tt.args...)...)
			r.wantHidden(t, tt.code, strings.Join(tt.args, " "), secret, "mavz", "short", "qZ5")
		}
	}
	for _, args := range [][]string{
		{canary},
		{"user", "add", canary},
		{"user", "password", canary},
		{"user", canary},
		{"user", "password", "--email", "ada@example.com", "--password-stdin", canary},
		{"user", "password", "--email", "ada@example.com", "--password-stdin=" + canary},
		{"user", "password", "--email", canary, "--password-stdin"},
		{"user", "password", "--email", "ada@example.com", "--password=" + canary},
		{"user", "password", "--email", "ada@example.com", "-p" + canary},
		{"user", "password", "-" + canary},
		{"user", "password", "--password", canary},
		{"user", "password", "---" + canary},
		{"user", "password", "--=" + canary},
		{"user", "add", "--email", "b@example.com", "--account", "Acme", "--password-stdin", "--role", canary},
		{"key", "revoke", canary},
		{"key", "revoke", testSecret},
		{"serve", testSecret},
	} {
		r := runProgram(t, "", nil, append([]string{"--database-url", db}, args...)...)
		r.wantHidden(t, 2, strings.Join(args, " "), testSecret)
	}
	runProgram(t, "", nil, "key", "revoke", "--database-url", db, "cic_live_short").want(t, 2, "cicosts key revoke -", "other users")
}

// A value that certainly contains no secret is repeated, to show the mistake.
func TestHarmlessArgumentIsShown(t *testing.T) {
	runProgram(t, "", nil, "serve", "--addr", "localhost").want(t, 2, `--addr "localhost" is not usable`)
	runProgram(t, "", nil, "sevre").want(t, 2, `unknown command "sevre"`)
	runProgram(t, "", nil, "serve", "--adr", ":0").want(t, 2, "unknown flag --adr")
	runProgram(t, "", nil, "key", "revoke", "key_0", "--database-url", "sqlite:"+filepath.Join(t.TempDir(), "x.db")).want(t, 1, "there is no database")
}

// A URL that SQLite, its drivers or other programs do not take to name a file is
// refused, and no file is made.
func TestSQLiteURLWithoutAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, url := range []string{"sqlite::memory:", "sqlite://dir/x.db", "sqlite:///tmp/x.db", "sqlite:file:x.db", "sqlite:file:x?mode=memory", "sqlite:file::memory:?cache=shared", "sqlite:x.db?mode=memory", "sqlite:"} {
		for _, args := range [][]string{{"migrate", "up"}, {"migrate", "status"}, {"key", "list"}, {"doctor"}, {"version"}} {
			runProgram(t, "", []string{"CICOSTS_DATABASE_URL", url}, args...).want(t, 2, "CICOSTS_DATABASE_URL is not usable: want sqlite:PATH")
		}
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("made %v, %v", made, err)
	}
}
