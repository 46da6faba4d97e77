package main

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models/password"
	"cicosts/models/store/storetest"
)

// operate runs a command on the database with the tests' secret.
func operate(t *testing.T, db, in string, args ...string) result {
	t.Helper()
	return runProgram(t, in, []string{"CICOSTS_SECRET", testSecret, "CICOSTS_DATABASE_URL", db}, args...)
}

// columns returns the rows of a query whose columns are text, separated by bars by the query itself.
func columns(t *testing.T, db, query string) []string {
	t.Helper()
	rows, err := storetest.DB(t, db).QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestUserAdd(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		add := func(in, email, account string, more ...string) result {
			return operate(t, db, in, append([]string{"user", "add", "--email", email, "--account", account, "--password-stdin"}, more...)...)
		}
		add(testPass+"\n", "ada@example.com", "Acme").want(t, 0, "Added ada@example.com as owner of Acme.\n")
		add(testPass+"\r\nmore", "Bob@example.com", "acme", "--role", "viewer").want(t, 0, "Added Bob@example.com as viewer of Acme.\n")
		add(" "+testPass+" ", "eve@example.com", "Other", "--role=admin").want(t, 0, "Added eve@example.com as admin of Other.\n")
		for _, email := range []string{"ada@example.com", "ADA@example.com", "bob@EXAMPLE.com"} {
			add(testPass, email, "Third").want(t, 1, email, "exists already")
		}
		add("", "new@example.com", "Acme").want(t, 1, "the password is refused: Use at least 12 characters")
		add("short\n"+testPass, "new@example.com", "Acme").want(t, 1, "the password is refused: Use at least 12 characters")
		add("passwordpassword", "new@example.com", "Acme").want(t, 1, "the password is refused: This password is among those tried first.")
		add(strings.Repeat("long enough ", 1000), "new@example.com", "Acme").want(t, 1, "the password is refused: Use at most 128 characters.")

		people := columns(t, db, `SELECT u.email || '|' || m.role || '|' || a.name FROM users u JOIN memberships m ON m.user_id = u.id JOIN accounts a ON a.id = m.account_id ORDER BY 1`)
		want := []string{"Bob@example.com|viewer|Acme", "ada@example.com|owner|Acme", "eve@example.com|admin|Other"}
		if diff := cmp.Diff(want, people); diff != "" {
			t.Errorf("people (-want +got):\n%s", diff)
		}
		if accounts := columns(t, db, "SELECT name FROM accounts ORDER BY 1"); !cmp.Equal(accounts, []string{"Acme", "Other"}) {
			t.Errorf("accounts %v", accounts)
		}
		for email, pass := range map[string]string{"ada@example.com": testPass, "Bob@example.com": testPass, "eve@example.com": " " + testPass + " "} {
			hash := columns(t, db, "SELECT password_hash FROM users WHERE email = '"+email+"'")[0]
			if ok, err := password.Check(t.Context(), pass, hash); !ok || err != nil {
				t.Errorf("%s cannot sign in: %v", email, err)
			}
		}
		history := columns(t, db, "SELECT action || '|' || actor_type || '|' || detail FROM audit_events ORDER BY detail")
		want = []string{"user.added|operator|Bob@example.com as viewer", "user.added|operator|ada@example.com as owner", "user.added|operator|eve@example.com as admin"}
		if diff := cmp.Diff(want, history); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}

func TestUserPassword(t *testing.T) {
	const newPass = "staple battery horse correct"
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET": testSecret})
		ops := newPerson(t, r.base)
		ops.setUp(r.setup)
		operate(t, db, newPass, "user", "password", "--email", "nobody@example.com", "--password-stdin").want(t, 1, `there is no user with the e-mail address "nobody@example.com"`)
		operate(t, db, "short", "user", "password", "--email", "ops@acme.example", "--password-stdin").want(t, 1, "the password is refused")
		if _, page := ops.get("/settings/api"); !strings.Contains(page, "ops@acme.example") {
			t.Error("a refused password has ended the session")
		}
		operate(t, db, newPass+"\n", "user", "password", "--email", "OPS@acme.example", "--password-stdin").want(t, 0, "Set the password of OPS@acme.example and ended their sessions.")
		if _, page := ops.get("/settings/api"); !strings.Contains(page, "Sign in") {
			t.Error("the session goes on")
		}
		for pass, want := range map[string]int{"correct horse battery": http.StatusUnprocessableEntity, newPass: http.StatusOK} {
			if status, _ := newPerson(t, r.base).post("/login", url.Values{"email": {"ops@acme.example"}, "password": {pass}}); status != want {
				t.Errorf("signing in: %d, want %d", status, want)
			}
		}
		if got := columns(t, db, "SELECT actor_type FROM audit_events WHERE action = 'user.password_reset'"); !cmp.Equal(got, []string{"operator"}) {
			t.Errorf("history %v", got)
		}
	})
}

// An operator sees and revokes keys beside the running program, and never sees one's text.
func TestKeyListAndRevoke(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		operate(t, db, "", "key", "list").want(t, 1, "migrate up")
		r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET": testSecret})
		admin := newPerson(t, r.base)
		admin.setUp(r.setup)
		key := admin.generate(url.Values{"name": {"Grafana"}, "mode": {"live"}, "scoped": {"1"}, "permissions": {"costs:read"}})
		id := admin.newestKey()
		other := admin.generate(url.Values{"name": {"Other"}, "mode": {"test"}})

		list := operate(t, db, "", "key", "list", "--account", "ACME")
		list.want(t, 0)
		line := regexp.MustCompile(`(?m)^` + id + ` +Acme +Grafana +cic_live_…` + key[len(key)-4:] + ` +active +costs:read +\S+Z +(never|\S+Z)$`)
		if !line.MatchString(list.out) || strings.Count(list.out, "\n") != 3 {
			t.Errorf("the list is %s", list.out)
		}
		for _, text := range []string{key, other} {
			for i := 9; i+6 <= len(text); i++ {
				if strings.Contains(list.out, text[i:i+6]) {
					t.Fatalf("the list shows a part of a key: %s", list.out)
				}
			}
		}
		operate(t, db, "", "key", "list", "--account", "nobody's").want(t, 1, `there is no account "nobody's"`)
		operate(t, db, "", "key", "revoke", "key_none").want(t, 1, `there is no key with the id "key_none"`)
		refused := operate(t, db, "", "key", "revoke", key)
		if refused.want(t, 2, "standard input: cicosts key revoke -"); strings.Contains(refused.err, key) {
			t.Error("a text that is given as an argument is repeated")
		}

		first := operate(t, db, "", "key", "revoke", id)
		first.wantConfirmed(t, id)
		first.want(t, 0, "Revoked "+id+" (Grafana), in effect since ")
		if status, _ := answered(t, r.base+"/v1/key", key); status != http.StatusUnauthorized {
			t.Errorf("the revoked key is answered %d", status)
		}
		if status, _ := answered(t, r.base+"/v1/key", other); status != http.StatusOK {
			t.Errorf("the other key is answered %d", status)
		}
		if again := operate(t, db, "", "key", "revoke", id); again.code != 0 || again.out != first.out {
			t.Errorf("again: %+v, first %+v", again, first)
		}
		if got := columns(t, db, "SELECT actor_type FROM audit_events WHERE action = 'key.revoked'"); !cmp.Equal(got, []string{"operator"}) {
			t.Errorf("history %v", got)
		}
		if list := operate(t, db, "", "key", "list").out; !regexp.MustCompile(id + `.* revoked `).MatchString(list) {
			t.Errorf("the list is %s", list)
		}
	})
}

func TestMigrate(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		if path, ok := strings.CutPrefix(db, "sqlite:"); ok {
			operate(t, db, "", "migrate", "status").want(t, 1, "there is no database "+path)
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Error("asking has made the database")
			}
		} else {
			operate(t, db, "", "migrate", "status").want(t, 0, "00001_initial.sql  pending")
		}
		for range 2 {
			operate(t, db, "", "migrate", "up").want(t, 0, "The schema is up to date.")
			r := operate(t, db, "", "migrate", "status")
			r.want(t, 0, "00001_initial.sql  applied 20")
			if strings.Contains(r.out, "pending") {
				t.Errorf("it says %s", r.out)
			}
		}
		storetest.Exec(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
		for _, args := range [][]string{{"serve", "--addr", "127.0.0.1:0"}, {"migrate", "up"}, {"migrate", "status"}, {"key", "list"}} {
			operate(t, db, "", args...).want(t, 1, "schema version 99999", "start a newer program")
		}
	})
}

func TestVersion(t *testing.T) {
	r := runProgram(t, "", []string{"CICOSTS_DATABASE_URL", newDatabase(t)}, "version")
	if r.want(t, 0); !regexp.MustCompile(`^cicosts \S+.*\n$`).MatchString(r.out) {
		t.Errorf("it says %q", r.out)
	}
}
