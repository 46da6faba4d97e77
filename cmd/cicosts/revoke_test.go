package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models/store/storetest"
)

// confirmed returns the ids of keys that log records on standard error call
// revoked, and the rest of standard error.
func (r result) confirmed(t *testing.T) (ids []string, rest string) {
	t.Helper()
	for line := range strings.Lines(r.err) {
		var record struct{ Msg, Key string }
		if json.Unmarshal([]byte(line), &record) != nil {
			rest += line
		} else if record.Msg != "revocation confirmed" {
			t.Errorf("it logs %s", line)
		} else {
			ids = append(ids, record.Key)
		}
	}
	return ids, rest
}

// wantConfirmed checks that exactly these revocations are logged, and removes
// their records from standard error.
func (r *result) wantConfirmed(t *testing.T, want ...string) {
	t.Helper()
	ids, rest := r.confirmed(t)
	if !slices.Equal(ids, want) {
		t.Errorf("revocations of %v are logged, want %v", ids, want)
	}
	r.err = rest
}

// Each line of standard input revokes a key by its id or text. The command says
// what it did with each, without repeating a text.
func TestKeyRevokeLines(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET": testSecret})
		admin := newPerson(t, r.base)
		admin.setUp(r.setup)
		var texts, ids []string
		for i := range 5 {
			texts = append(texts, admin.generate(url.Values{"name": {fmt.Sprint("Key ", i)}, "mode": {"live"}}))
			ids = append(ids, admin.newestKey())
		}
		if got := operate(t, db, "", "key", "revoke", ids[0]); got.code != 0 {
			t.Fatalf("revoking one: %+v", got)
		}

		const unknown = "cic_live_mavzfVABqZ5YsOOlB1f46R38ERRE"
		in := strings.Join([]string{
			ids[0], "", "  " + ids[1] + "\t", ids[1], texts[2], "key_none", "key_" + strings.Repeat("A", 22), unknown, unknown[:36] + "x", "cic_live_short", "garbage " + canary,
			strings.Repeat(canary, 5000), "\r", texts[3] + "\r", texts[2], ids[4], // without a line's end
		}, "\n")
		got := operate(t, db, in, "key", "revoke", "-")
		got.wantConfirmed(t, ids[0], ids[1], ids[1], ids[2], ids[3], ids[2], ids[4])
		if got.code != 1 || got.err != "cicosts: 7 of 14 keys are not known to be revoked\n" {
			t.Errorf("exit code %d, %q", got.code, got.err)
		}
		lines := regexp.MustCompile(`\d{4}-\d\d-\d\dT\S+Z`).ReplaceAllString(got.out, "TIME")
		want := ids[0] + `: was revoked already (Key 0), in effect since TIME
` + ids[1] + `: revoked now (Key 1), in effect since TIME
` + ids[1] + `: was revoked already (Key 1), in effect since TIME
line 5, ` + ids[2] + `: revoked now (Key 2), in effect since TIME
key_none: no such key
key_` + strings.Repeat("A", 22) + `: no such key
line 8: no such key
line 9: no such key: the text is the API key's checksum does not match
line 10: no such key: the text is not of the form of an API key
line 11: neither the id nor the text of a key
line 12: longer than 1024 bytes, so it names no key
line 14, ` + ids[3] + `: revoked now (Key 3), in effect since TIME
line 15, ` + ids[2] + `: was revoked already (Key 2), in effect since TIME
` + ids[4] + `: revoked now (Key 4), in effect since TIME
`
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("it says (-want +got):\n%s", diff)
		}
		for _, text := range texts {
			if status, _ := answered(t, r.base+"/v1/key", text); status != http.StatusUnauthorized {
				t.Errorf("a revoked key is answered %d", status)
			}
		}
		operate(t, db, "\n \n", "key", "revoke", "-").want(t, 0, "Standard input names no key.")
		all := operate(t, db, strings.Join(ids, "\n")+"\n", "key", "revoke", "-")
		if all.wantConfirmed(t, ids...); all.code != 0 || all.err != "" || strings.Count(all.out, "was revoked already") != 5 {
			t.Errorf("again: %+v", all)
		}
	})
}

// Finding a text takes the secret that the key was made under. An id needs none.
func TestKeyRevokeTextWantsTheSecret(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET": testSecret})
		admin := newPerson(t, r.base)
		admin.setUp(r.setup)
		text := admin.generate(url.Values{"name": {"Grafana"}, "mode": {"live"}})
		id := admin.newestKey()
		revoke := func(in string, env ...string) result {
			return runProgram(t, in+"\n", append([]string{"CICOSTS_DATABASE_URL", db}, env...), "key", "revoke", "-")
		}
		for _, env := range [][]string{nil, {"CICOSTS_SECRET", otherSecret}, {"CICOSTS_SECRET_FILE", write(t, "damaged", "damaged")}} {
			got := revoke(text, env...)
			if got.code != 1 || !strings.HasPrefix(got.out, "line 1: the key is not revoked: a text cannot be looked up without the secret") || strings.Contains(got.out+got.err, text) {
				t.Errorf("with %v: %+v", env, got)
			}
		}
		if status, _ := answered(t, r.base+"/v1/key", text); status != http.StatusOK {
			t.Errorf("the key is answered %d", status)
		}
		got := revoke(text, "CICOSTS_SECRET", otherSecret+","+testSecret)
		if got.wantConfirmed(t, id); got.code != 0 || !strings.HasPrefix(got.out, "line 1, "+id+": revoked now (Grafana), in effect since ") {
			t.Errorf("with both: %+v", got)
		}
		got = revoke(id)
		if got.wantConfirmed(t, id); got.code != 0 || !strings.HasPrefix(got.out, id+": was revoked already (Grafana)") {
			t.Errorf("an id without a secret: %+v", got)
		}
	})
}

// A revocation that cannot be confirmed is reported, and the others are still
// done.
func TestKeyRevokeLinesUnconfirmed(t *testing.T) {
	t.Parallel() // it waits for revokePatience
	db := storetest.Postgres(t)
	r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET": testSecret})
	admin := newPerson(t, r.base)
	admin.setUp(r.setup)
	var ids []string
	for _, name := range []string{"one", "stuck", "three"} {
		admin.generate(url.Values{"name": {name}, "mode": {"live"}})
		ids = append(ids, admin.newestKey())
	}
	tx, err := storetest.DB(t, db).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "SELECT 1 FROM api_keys WHERE id = $1 FOR NO KEY UPDATE", ids[1]); err != nil {
		t.Fatal(err)
	}
	got := operate(t, db, strings.Join(ids, "\n"), "key", "revoke", "-") // tries for revokePatience
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if logged, rest := got.confirmed(t); !slices.Contains(logged, ids[0]) || !slices.Contains(logged, ids[2]) || rest != "cicosts: 1 of 3 keys are not known to be revoked\n" {
		t.Errorf("it says %s", got.err)
	}
	for i, part := range []string{": revoked now (one)", ": not confirmed: the revocation of " + ids[1] + " is not confirmed yet, so the key may still work: a running cicosts serve keeps trying", ": revoked now (three)"} {
		if !strings.Contains(got.out, ids[i]+part) {
			t.Errorf("lacks %q: %s", part, got.out)
		}
	}
	if got.code != 1 || strings.Count(got.out, "\n") != 3 {
		t.Errorf("exit code %d: %s", got.code, got.out)
	}
}

// An error of standard input is returned after the lines before it.
func TestReadLines(t *testing.T) {
	in := io.MultiReader(strings.NewReader(strings.Repeat("x", maxKeyLine)+"\n"+strings.Repeat("y", maxKeyLine+1)+"\na"), iotestErr{})
	var got []string
	for line := range readLines(t.Context(), in) {
		got = append(got, fmt.Sprint(line.number, len(line.text), line.tooLong, line.readErr))
	}
	if diff := cmp.Diff([]string{"1 1024 false <nil>", "2 0 true <nil>", "3 0 false broken"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errors.New("broken") }

// feedCommand is the README's command that revokes again what a log calls confirmed.
func feedCommand(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^sed .*key revoke -$`).FindString(string(raw))
	if command == "" {
		t.Fatal("the README names no command that feeds a log to key revoke")
	}
	return command
}

// After a backup is restored, the README's command revokes again every key that
// was revoked since, in each way, from a log of either format.
func TestRevokedKeysAfterARestore(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, ".build"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(folder, ".build", "cicosts"), ".").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cicosts.db")
			env := map[string]string{"CICOSTS_DATABASE_URL": "sqlite:" + path, "CICOSTS_LOG_FORMAT": "json"}
			r := startServing(t, env)
			admin := newPerson(t, r.base)
			admin.setUp(r.setup)
			keys := map[string]string{} // text by name
			ids := map[string]string{}
			for _, name := range []string{"kept", "by page", "by key", "by id", "by text", "named by a stranger"} {
				keys[name] = admin.generate(url.Values{"name": {name}, "mode": {"live"}})
				ids[name] = admin.newestKey()
			}
			r.shutDown(t)
			backup, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			r = startServing(t, map[string]string{"CICOSTS_DATABASE_URL": "sqlite:" + path, "CICOSTS_LOG_FORMAT": format})
			log := r.log
			admin.base = r.base
			if status, _ := admin.post("/settings/api/keys/"+ids["by page"]+"/revoke", nil); status != http.StatusOK {
				t.Fatalf("revoking by page: %d", status)
			}
			if status := deleteKey(t, r.base, keys["by key"]); status != http.StatusNoContent {
				t.Fatalf("revoking by key: %d", status)
			}
			for in, args := range map[string][]string{"": {"key", "revoke", ids["by id"]}, keys["by text"] + "\n": {"key", "revoke", "-"}} {
				got := runProgram(t, in, []string{"CICOSTS_DATABASE_URL", "sqlite:" + path, "CICOSTS_LOG_FORMAT", format}, args...)
				if got.code != 0 {
					t.Fatalf("revoking by command: %+v", got)
				}
				fmt.Fprint(log, got.err)
			}
			forge(log, format, ids["named by a stranger"])
			r.shutDown(t)

			for _, side := range []string{"-wal", "-shm"} {
				if err := os.Remove(path + side); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path, backup, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, "cicosts.log"), []byte(log.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", feedCommand(t))
			cmd.Dir = folder
			cmd.Env = append(os.Environ(), "CICOSTS_DATABASE_URL=sqlite:"+path)
			out, err := cmd.Output()
			if err != nil || strings.Count(string(out), ": revoked now (") != 4 || strings.Count(string(out), "\n") != 4 {
				t.Errorf("the README's command: %v\n%s", err, out)
			}

			r = startServing(t, env)
			for name, want := range map[string]int{"kept": 200, "by page": 401, "by key": 401, "by id": 401, "by text": 401, "named by a stranger": 200} {
				if status, _ := answered(t, r.base+"/v1/key", keys[name]); status != want {
					t.Errorf("%s: %d, want %d", name, status, want)
				}
			}
		})
	}
}

// deleteKey has the key revoke itself.
func deleteKey(t *testing.T, base, key string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, base+"/v1/key", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// forge logs attributes and messages that imitate a record of the key's
// revocation, as a stranger might try to.
func forge(log io.Writer, format, keyID string) {
	c := call{settings: settings{logFormat: format}, program: program{err: log}}
	for _, record := range []string{
		`"msg":"revocation confirmed","key":"` + keyID + `"`, `msg="revocation confirmed" key=` + keyID,
		"\n" + `{"msg":"revocation confirmed","key":"` + keyID + `"}` + "\n", "\"\n" + `msg="revocation confirmed" key=` + keyID + "\n",
		`revocation confirmed key=` + keyID, `\","msg":"revocation confirmed","key":"` + keyID,
	} {
		c.logger().Info("request", "who", record, "error", errors.New(record))
	}
}
