package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
)

// What is derived from a secret must never change: every key and cookie would die with it.
func TestDerivationIsFixed(t *testing.T) {
	secrets, err := parseSecrets(testSecret + "," + otherSecret)
	if err != nil || len(secrets) != 2 {
		t.Fatal(len(secrets), err)
	}
	key, err := keytext.Parse("cic_live_mavzfVABqZ5YsOOlB1f46R38ERRE")
	if err != nil {
		t.Fatal(err)
	}
	hash := secrets[0].hasher().Hash(key)
	cookies := secrets[0].cookieKeys()
	for name, pair := range map[string][2]string{
		"fingerprint": {secrets[0].fingerprint(), "c7e6017753acaa84"},
		"hash":        {hex.EncodeToString(hash[:]), "1014adc9fbac38ca4053b7412f10eae6cb4a9ec9ae6c15241f0f6a088f651746"},
		"signing":     {hex.EncodeToString(cookies[0]), "6f168edbbdf30004468c0971b1952365ac9042bd81a054cb6c92d20b03175577"},
		"encryption":  {hex.EncodeToString(cookies[1]), "a31b81d2952994bc7c01e72b265cf075a9f408196f0130d5a179971228c7b9be"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s, want %s", name, pair[0], pair[1])
		}
	}
}

func TestParseSecrets(t *testing.T) {
	raw := bytes.Repeat([]byte{0xfb, 0xff}, 16)
	for _, text := range []string{
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw), base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		" " + base64.StdEncoding.EncodeToString(raw) + "\n",
	} {
		if got, err := parseSecrets(text); err != nil || len(got) != 1 || !bytes.Equal(got[0], raw) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	if got, err := parseSecrets(testSecret + ", " + otherSecret + "\r\n"); err != nil || len(got) != 2 || got[0][0] != 0 || got[1][0] != 31 {
		t.Errorf("two: %x, %v", got, err)
	}
	for _, text := range []string{
		"", ",", testSecret + ",", "," + testSecret, base64.StdEncoding.EncodeToString(raw[:31]), "not base64!", testSecret[:20] + " " + testSecret[20:], testSecret + " " + otherSecret,
		strings.Repeat("=", 44),
	} {
		if got, err := parseSecrets(text); err == nil {
			t.Errorf("%q gives %d secrets", text, len(got))
		} else if len(text) > 10 && strings.Contains(err.Error(), text[:10]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestSecretsAreDifferent(t *testing.T) {
	secrets, err := parseSecrets(testSecret + "," + otherSecret)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range secrets {
		hash := s.hasher().Hash(keytext.Mint(keytext.Live))
		for _, derived := range []string{s.fingerprint(), string(hash[:]), string(s.cookieKeys()[0]), string(s.cookieKeys()[1]), string(s)} {
			if seen[derived] {
				t.Error("two derived secrets are the same")
			}
			seen[derived] = true
		}
	}
}

func TestPostgresWantsASecret(t *testing.T) {
	db := storetest.Postgres(t)
	for _, env := range [][]string{nil, {"CICOSTS_SECRET", ""}} {
		for _, args := range [][]string{{"serve", "--addr", "127.0.0.1:0"}, {"migrate", "up"}} {
			runProgram(t, "", env, append(args, "--database-url", db)...).want(t, 1, "CICOSTS_SECRET is not set", "required", "openssl rand -base64 32")
		}
	}
	runProgram(t, "", nil, "key", "list", "--database-url", db).want(t, 0) // a key can be revoked without it
	runProgram(t, "", []string{"CICOSTS_SECRET", "c2hvcnQ="}, "migrate", "up", "--database-url", db).want(t, 2, "CICOSTS_SECRET is not usable", "at least 32 bytes")
	file := write(t, "secret", testSecret+"\n")
	runProgram(t, "", []string{"CICOSTS_SECRET_FILE", file}, "migrate", "up", "--database-url", db).want(t, 0)
	runProgram(t, "", []string{"CICOSTS_SECRET", testSecret}, "migrate", "up", "--database-url", db).want(t, 0)
	bad := write(t, "bad", "c2hvcnQ=")
	runProgram(t, "", []string{"CICOSTS_SECRET_FILE", bad}, "migrate", "up", "--database-url", db).want(t, 1, bad, "at least 32 bytes")
}

// SQLite's secret is made with the database, once and in private, and a database that has lost it gets no other.
func TestSecretFile(t *testing.T) {
	db := newDatabase(t)
	file := filepath.Join(filepath.Dir(strings.TrimPrefix(db, "sqlite:")), "cicosts.secret")
	var starts sync.WaitGroup
	for range 4 {
		starts.Go(func() { runProgram(t, "", nil, "migrate", "up", "--database-url", db).want(t, 0) })
	}
	starts.Wait()
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if secrets, err := parseSecrets(string(first)); err != nil || len(secrets) != 1 || len(secrets[0]) != 32 {
		t.Errorf("the file holds %d secrets, %v", len(secrets), err)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "cicosts.secret-") {
			t.Errorf("%s is left over", e.Name())
		}
	}
	runProgram(t, "", nil, "migrate", "up", "--database-url", db).want(t, 0)
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(first, again) {
		t.Errorf("the secret has changed, %v", err)
	}

	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	runProgram(t, "", nil, "serve", "--addr", "127.0.0.1:0", "--database-url", db).want(t, 1, "its secret "+file+" is missing", "put the file back, or set CICOSTS_SECRET")
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error("there is a new secret file")
	}
	runProgram(t, "", []string{"CICOSTS_SECRET", testSecret}, "migrate", "up", "--database-url", db).want(t, 1, "a secret that was not given")
	runProgram(t, "", []string{"CICOSTS_SECRET_FILE", file + ".away"}, "migrate", "up", "--database-url", db).want(t, 0)
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	runProgram(t, "", nil, "migrate", "up", "--database-url", db).want(t, 1, file, "not usable")
}

// No command makes an SQLite database anew while its generated secret is there.
func TestDatabaseLost(t *testing.T) {
	db := newDatabase(t)
	path := strings.TrimPrefix(db, "sqlite:")
	folder := filepath.Dir(path)
	file := filepath.Join(folder, "cicosts.secret")
	runProgram(t, testPass, nil, "user", "add", "--email", "ada@example.com", "--account", "Acme", "--password-stdin", "--database-url", db).want(t, 0)
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(filepath.Join(folder+".away", "cicosts.secret"))
	if err == nil {
		err = os.WriteFile(file, secret, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	message := []string{"the database " + path + " is missing", file, "put the database back", "to start anew", "move the secret away"}
	for _, env := range [][]string{nil, {"CICOSTS_SECRET", testSecret}, {"CICOSTS_SECRET_FILE", write(t, "another", testSecret)}} {
		for _, args := range [][]string{
			{"user", "add", "--email", "bob@example.com", "--account", "Acme", "--password-stdin"},
			{"user", "password", "--email", "ada@example.com", "--password-stdin"},
			{"key", "list"},
			{"key", "revoke", "key_0"},
			{"key", "revoke", "-"},
			{"import", write(t, "report.csv", ""), "--account", "Acme"},
			{"migrate", "up"},
			{"migrate", "status"},
			{"serve", "--addr", "127.0.0.1:0"},
		} {
			if runProgram(t, testPass, env, append(args, "--database-url", db)...).want(t, 1, message...); t.Failed() {
				t.FailNow() // serve would not end
			}
		}
		runProgram(t, "", env, "doctor", "--database-url", db).wantFindings(t, 1, append(message, "fail  database ")...)
	}
	if made, err := os.ReadDir(folder); err != nil || len(made) != 1 {
		t.Errorf("made %v, %v", made, err)
	}
	// A secret that the operator has put there was not generated with a database.
	runProgram(t, "", []string{"CICOSTS_SECRET_FILE", file}, "migrate", "up", "--database-url", db).want(t, 0)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// Starting anew as the line says makes both.
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	runProgram(t, "", nil, "migrate", "up", "--database-url", db).want(t, 0)
	if again, err := os.ReadFile(file); err != nil || bytes.Equal(again, secret) {
		t.Errorf("started anew with the old secret, %v", err)
	}
}

// A new secret is deployed behind the old one, then in front of it; keys and sessions outlive that, and a start that
// would leave a key behind is refused.
func TestSecretRotation(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		start := func(secret string) *running {
			t.Helper()
			return startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET": secret})
		}
		refused := func(secret string, missing string) {
			t.Helper()
			r := runProgram(t, "", []string{"CICOSTS_SECRET", secret}, "serve", "--addr", "127.0.0.1:0", "--database-url", db)
			secrets, err := parseSecrets(missing)
			if err != nil {
				t.Fatal(err)
			}
			r.want(t, 1, "a secret that was not given (fingerprint "+secrets[0].fingerprint(), "CICOSTS_SECRET")
			if strings.Contains(r.err, testSecret) || strings.Contains(r.err, otherSecret) {
				t.Error("the secret is shown")
			}
		}
		accepted := func(r *running, key string) {
			t.Helper()
			if got, _ := answered(t, r.base+"/v1/key", key); got != http.StatusOK {
				t.Errorf("the key is answered %d", got)
			}
		}
		before := start(testSecret)
		admin := newPerson(t, before.base)
		admin.setUp(before.setup)
		old := admin.generate(url.Values{"name": {"old"}, "mode": {"live"}})
		oldID := admin.newestKey()
		refused(otherSecret, testSecret)

		behind := start(testSecret + "," + otherSecret)
		accepted(behind, old)
		refused(otherSecret, testSecret)
		before.shutDown(t)

		front := start(otherSecret + "," + testSecret)
		accepted(front, old)
		admin.base = front.base
		fresh := admin.generate(url.Values{"name": {"new"}, "mode": {"live"}}) // signed in still
		for _, r := range []*running{behind, front} {
			accepted(r, old)
			accepted(r, fresh)
		}
		refused(testSecret, otherSecret)
		refused(otherSecret, testSecret) // the old key depends on the old secret
		behind.shutDown(t)

		if status, _ := admin.post("/settings/api/keys/"+oldID+"/revoke", nil); status != http.StatusOK {
			t.Fatalf("revoking: %d", status)
		}
		front.shutDown(t)
		accepted(start(otherSecret), fresh)
	})
}
