package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

const (
	otherSecret = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	testPass    = "correct horse battery staple"
)

// result is what a run of the program left.
type result struct {
	code     int
	out, err string
}

// runProgram runs the whole program. env are pairs of name and value.
func runProgram(t *testing.T, in string, env []string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := execute(t.Context(), program{args: args, env: lookup(env), in: strings.NewReader(in), out: &out, err: &errs})
	return result{code, out.String(), errs.String()}
}

func lookup(env []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i+1 < len(env); i += 2 {
			if env[i] == name {
				return env[i+1], true
			}
		}
		return "", false
	}
}

// want checks the exit code, and that a failure is exactly one line on standard error that has every part.
func (r result) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d; it says %q and %q", r.code, code, r.out, r.err)
		return
	}
	text := r.out
	if code != 0 {
		text = r.err
		if !strings.HasPrefix(r.err, "cicosts: ") || strings.Count(r.err, "\n") != 1 || !strings.HasSuffix(r.err, "\n") {
			t.Errorf("not one line on standard error: %q", r.err)
		}
		if r.out != "" {
			t.Errorf("a failure with %q on standard output", r.out)
		}
	} else if r.err != "" {
		t.Errorf("a success with %q on standard error", r.err)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
}

// newDatabase is the URL of an SQLite database that does not exist yet, in a folder of its own.
func newDatabase(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "data", "cicosts.db")
}

func TestCommandLine(t *testing.T) {
	db := newDatabase(t)
	for _, tt := range []struct {
		args  []string
		code  int
		parts []string
	}{
		{nil, 2, []string{"no command; want one of: serve, user add"}},
		{[]string{"sevre"}, 2, []string{`unknown command "sevre"`, "want one of: serve, "}},
		{[]string{"user"}, 2, []string{`unknown command "user"`, "user add"}},
		{[]string{"user", "remove", "x"}, 2, []string{`unknown command "user remove"`}},
		{[]string{"heal"}, 2, []string{`unknown command "heal"`}},
		{[]string{"serve", "now"}, 2, []string{`unexpected argument "now"`, "cicosts serve"}},
		{[]string{"version", "--email", "a@b"}, 2, []string{"version takes no flag --email"}},
		{[]string{"serve", "--password-stdin"}, 2, []string{"serve takes no flag --password-stdin"}},
		{[]string{"key", "revoke"}, 2, []string{"key revoke wants an argument", "KEY_ID"}},
		{[]string{"key", "revoke", "a", "b"}, 2, []string{`unexpected argument "b"`}},
		{[]string{"import"}, 2, []string{"import wants an argument", "FILE --account NAME"}},
		{[]string{"import", "x.csv"}, 2, []string{"import wants --account NAME"}},
		{[]string{"user", "add"}, 2, []string{"user add wants --email E --account NAME --password-stdin"}},
		{[]string{"user", "add", "--email", "a@example.com", "--account", "A"}, 2, []string{"--password-stdin"}},
		{[]string{"user", "add", "--email", "a@example.com", "--account", "A", "--password-stdin=false"}, 2, []string{"--password-stdin"}},
		{[]string{"user", "add", "--email", "a", "--account", "A", "--password-stdin"}, 2, []string{`--email "a"`, "ada@example.com"}},
		{[]string{"user", "add", "--email", "a@example.com", "--account", "a\tb", "--password-stdin"}, 2, []string{`--account "a\tb"`, "1 to 100 characters"}},
		{[]string{"user", "add", "--email", "a@example.com", "--account", "A", "--role", "boss", "--password-stdin"}, 2, []string{`--role "boss"`, "owner, admin, member or viewer"}},
		{[]string{"user", "password", "--email", "a@example.com"}, 2, []string{"user password wants --email E --password-stdin"}},
		{[]string{"serve", "--nonsense"}, 2, []string{"unknown flag --nonsense", "want one of: ", "--trusted-proxies"}},
		{[]string{"serve", "--addr"}, 2, []string{"--addr needs an argument"}},
		{[]string{"user", "add", "--password-stdin=perhaps"}, 2, []string{"--password-stdin takes no value"}},
		{[]string{"--database-url", "mysql://x", "version"}, 2, []string{"--database-url is not usable", "sqlite:PATH or postgres://"}},
		{[]string{"version"}, 0, []string{"cicosts "}},
		{[]string{"--database-url", db, "version"}, 0, []string{"cicosts "}},
		{[]string{"version", "--log-format=text"}, 0, []string{"cicosts "}},
		{[]string{"help"}, 0, []string{"cicosts serve", "CICOSTS_SECRET_FILE", "--trusted-proxies"}},
		{[]string{"--help"}, 0, []string{"cicosts serve"}},
		{[]string{"key", "list", "-h"}, 0, []string{"cicosts key list [--account NAME]"}},
	} {
		runProgram(t, "", nil, tt.args...).want(t, tt.code, tt.parts...)
	}
}

// Flags stand anywhere, and two dashes end them.
func TestParsePermuted(t *testing.T) {
	db := newDatabase(t)
	for _, args := range [][]string{
		{"--database-url", db, "--email", "a1@example.com", "--account", "Acme", "--password-stdin", "user", "add"},
		{"user", "--email", "a2@example.com", "add", "--account=Acme", "-password-stdin", "--database-url=" + db},
		{"user", "add", "--password-stdin", "--account", "Acme", "--email", "a3@example.com", "--database-url", db},
	} {
		runProgram(t, testPass, nil, args...).want(t, 0, "Added a", "as owner of Acme.")
	}
	runProgram(t, "", nil, "key", "revoke", "--database-url", db, "--", "--account").want(t, 1, `there is no key with the id "--account"`)
	runProgram(t, "", nil, "key", "--database-url", db, "revoke", "--", "-x").want(t, 1, `there is no key with the id "-x"`)
	runProgram(t, "", nil, "--database-url", db, "--", "key", "revoke", "-y").want(t, 1, `there is no key with the id "-y"`)
}

// An error that spans lines is one line, as scripts and logs expect.
func TestFailureIsOneLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a\nb")
	runProgram(t, "", nil, "migrate", "status", "--database-url", "sqlite:"+file).want(t, 1, "there is no database")
	var errs bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := execute(ctx, program{args: []string{"migrate", "up", "--database-url", newDatabase(t)}, env: lookup(nil), out: io.Discard, err: &errs})
	result{code, "", errs.String()}.want(t, 1)
}
