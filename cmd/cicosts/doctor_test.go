package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

func fileSum(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// wantFindings checks the exit code and that every part is among the lines.
func (r result) wantFindings(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code || code != 0 && !strings.HasSuffix(r.err, "checks failed\n") {
		t.Errorf("exit code %d, want %d; it says %q", r.code, code, r.err)
	}
	for _, part := range parts {
		if !strings.Contains(r.out, part) {
			t.Errorf("lacks %q:\n%s", part, r.out)
		}
	}
}

func TestDoctorOnSQLite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cicosts.db")
	db := "sqlite:" + path
	doctor := func(env ...string) result {
		return runProgram(t, "", append([]string{"CICOSTS_DATABASE_URL", db}, env...), "doctor")
	}
	doctor().wantFindings(t, 1, "fail  database", "there is no database")
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Fatalf("made %v", files)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	doctor().wantFindings(t, 1, "fail  schema", "run cicosts migrate up", "warn  durability", "the journal is delete")
	if files, _ := os.ReadDir(dir); len(files) != 1 || fileSum(t, path) != sha256.Sum256(nil) {
		t.Fatalf("changed %v", files)
	}
	runProgram(t, "", []string{"CICOSTS_DATABASE_URL", db}, "migrate", "up").want(t, 0)
	before := fileSum(t, path)
	doctor().wantFindings(t, 0, "ok    file", "ok    durability", "ok    schema", "ok    secret              fingerprint ")
	doctor("CICOSTS_SECRET", testSecret).wantFindings(t, 1, "fail  secret", "was not given")
	if fileSum(t, path) != before {
		t.Error("doctor changed the file")
	}
	secret := filepath.Join(dir, secretFileName)
	if err := os.Rename(secret, secret+".away"); err != nil {
		t.Fatal(err)
	}
	doctor().wantFindings(t, 1, "fail  secret")
	if _, err := os.Stat(secret); err == nil {
		t.Error("doctor made a secret")
	}
	if err := os.Rename(secret+".away", secret); err != nil {
		t.Fatal(err)
	}
	storetest.Exec(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)")
	doctor().wantFindings(t, 1, "fail  schema", "use a newer program")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	doctor().wantFindings(t, 1, "warn  file", "chmod 600")
}

// doctor and serve warn of a secret that others can read, as of the database
// file, also of one that CICOSTS_SECRET_FILE names.
func TestSecretOthersCanRead(t *testing.T) {
	db := newDatabase(t)
	runProgram(t, "", nil, "migrate", "up", "--database-url", db).want(t, 0)
	generated := filepath.Join(filepath.Dir(strings.TrimPrefix(db, "sqlite:")), secretFileName)
	text, err := os.ReadFile(generated)
	if err != nil {
		t.Fatal(err)
	}
	given := write(t, "given", string(text))
	for _, tt := range []struct {
		file string
		env  map[string]string
	}{
		{generated, map[string]string{"CICOSTS_DATABASE_URL": db}},
		{given, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET_FILE": given}},
		{given, map[string]string{"CICOSTS_DATABASE_URL": storetest.Postgres(t), "CICOSTS_SECRET_FILE": given}},
	} {
		var env []string
		for name, value := range tt.env {
			env = append(env, name, value)
		}
		for _, mode := range []os.FileMode{0o600, 0o400, 0o644, 0o640, 0o604, 0o660} {
			if err := os.Chmod(tt.file, mode); err != nil {
				t.Fatal(err)
			}
			r := runProgram(t, "", env, "doctor")
			if mode&0o077 == 0 {
				r.wantFindings(t, 0, "ok    secret ")
				continue
			}
			r.wantFindings(t, 0, "warn  secret ", fmt.Sprintf("%s can be read by others (mode %#o); chmod 600 it", tt.file, mode))
		}
		log := startServing(t, tt.env).log.String()
		if !strings.Contains(log, `"check":"secret","state":"warn"`) || !strings.Contains(log, tt.file+" can be read by others") {
			t.Errorf("serve logs %s", log)
		}
		if err := os.Chmod(tt.file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A worse finding is still shown. Without a schema the secret cannot be
	// compared, and the warning is shown alone.
	if err := os.Chmod(given, 0o644); err != nil {
		t.Fatal(err)
	}
	runProgram(t, "", []string{"CICOSTS_DATABASE_URL", db, "CICOSTS_SECRET_FILE", write(t, "other", testSecret)}, "doctor").wantFindings(t, 1, "fail  secret ", "was not given")
	empty := []string{"CICOSTS_DATABASE_URL", storetest.NewCluster(t).Empty(t), "CICOSTS_SECRET_FILE", given}
	runProgram(t, "", empty, "doctor").wantFindings(t, 1, "fail  schema ", "warn  secret ", "chmod 600")
}

func TestDoctorOnPostgres(t *testing.T) {
	primary := storetest.NewCluster(t, "fsync=on", "full_page_writes=on")
	empty := primary.Empty(t)
	operate(t, empty, "", "doctor").wantFindings(t, 1, "ok    primary", "fail  schema", "run cicosts migrate up")
	if tables := columns(t, empty, "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"); len(tables) != 0 {
		t.Errorf("doctor made %v", tables)
	}
	db := primary.Postgres(t)
	runProgram(t, "", []string{"CICOSTS_DATABASE_URL", db}, "doctor").wantFindings(t, 1, "fail  secret", "CICOSTS_SECRET is not set")
	operate(t, db, "", "doctor").wantFindings(t, 0, "ok    primary", "on timeline 1", "ok    version", "ok    synchronous_commit  on",
		"ok    replication         no standby", "ok    clock", "ok    schema", "ok    secret              none in use yet", "ok    failovers")
	operate(t, db, "", "migrate", "up").want(t, 0)
	operate(t, db, "", "doctor").wantFindings(t, 0, "ok    secret              fingerprint ")
	runProgram(t, "", []string{"CICOSTS_DATABASE_URL", db, "CICOSTS_SECRET", strings.Repeat("b", 43)}, "doctor").wantFindings(t, 1, "fail  secret", "was not given")

	// settings changes one, and doctor is asked until the server's processes have all heard of it.
	settings := func(name, value string, code int, parts ...string) {
		t.Helper()
		storetest.Exec(t, db, "ALTER SYSTEM SET "+name+" = "+value)
		storetest.Exec(t, db, "SELECT pg_reload_conf()")
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
			if r := operate(t, db, "", "doctor"); r.code == code && strings.Contains(r.out, parts[0]) {
				break
			}
		}
		operate(t, db, "", "doctor").wantFindings(t, code, parts...)
		storetest.Exec(t, db, "ALTER SYSTEM RESET "+name)
		storetest.Exec(t, db, "SELECT pg_reload_conf()")
	}
	settings("synchronous_commit", "off", 1, "fail  synchronous_commit", "set it to on")
	settings("synchronous_commit", "remote_apply", 0, "ok    synchronous_commit  remote_apply")

	both := storetest.WithHosts(db, primary.Host(), "127.0.0.1:1")
	operate(t, both, "", "doctor").wantFindings(t, 0, "warn  host", "127.0.0.1:1 does not answer", "warn  replication", "no standby is connected")
	standby := primary.Standby(t)
	primary.CaughtUp(t, standby)
	both = storetest.WithHosts(db, primary.Host(), standby.Host())
	operate(t, both, "", "doctor").wantFindings(t, 0, "is a standby", "warn  replication", "standby without synchronous replication", "synchronous_standby_names")
	storetest.Exec(t, db, "CREATE ROLE plain LOGIN")
	storetest.Exec(t, db, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain")
	plain := strings.Replace(both, "postgres@", "plain@", 1)
	operate(t, plain, "", "doctor").wantFindings(t, 0, "warn  replication", "GRANT pg_monitor")
	settings("synchronous_standby_names", "'standby'", 0, "ok    replication         synchronous, to 1")

	operate(t, storetest.WithHosts(db, standby.Host()), "", "doctor").wantFindings(t, 1, "fail  database", "a standby may miss revocations")
	standby.Promote(t)
	operate(t, both, "", "doctor").wantFindings(t, 1, "ok    primary", "on timeline 2", "fail  host", "is an old primary, on timeline 1")
}
