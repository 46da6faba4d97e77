package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// read reads the settings as a run of a command with these flags does.
func read(t *testing.T, env []string, args ...string) (settings, error) {
	t.Helper()
	flags := flag.NewFlagSet("cicosts", flag.ContinueOnError)
	values := addFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return readSettings(values, flags, lookup(env), false)
}

func TestSettingsDefaults(t *testing.T) {
	want := settings{addr: "127.0.0.1:8080", databaseURL: "sqlite:cicosts.db", logFormat: "json"}
	for _, env := range [][]string{nil, {"CICOSTS_ADDR", "", "CICOSTS_DATABASE_URL", "", "CICOSTS_BASE_URL", "", "CICOSTS_SECRET", "", "CICOSTS_LOG_FORMAT", ""}} {
		got, err := read(t, env)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	flags := flag.NewFlagSet("cicosts", flag.ContinueOnError)
	if got, _ := readSettings(addFlags(flags), flags, lookup(nil), true); got.logFormat != "text" {
		t.Errorf("on a terminal the log is %s", got.logFormat)
	}
}

func TestFlagsWin(t *testing.T) {
	env := []string{
		"CICOSTS_ADDR", "127.0.0.1:1", "CICOSTS_DATABASE_URL", "sqlite:env.db", "CICOSTS_BASE_URL", "https://env.example",
		"CICOSTS_TRUSTED_PROXIES", "10.0.0.0/8", "CICOSTS_METRICS_ADDR", "127.0.0.1:3", "CICOSTS_LOG_FORMAT", "text",
	}
	got, err := read(t, env)
	want := settings{addr: "127.0.0.1:1", databaseURL: "sqlite:env.db", baseURL: "https://env.example", trustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, metricsAddr: "127.0.0.1:3", logFormat: "text"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	got, err = read(t, env, "--addr", "127.0.0.1:2", "--database-url", "sqlite:flag.db", "--base-url", "https://flag.example", "--trusted-proxies", "", "--metrics-addr", "", "--log-format", "json")
	want = settings{addr: "127.0.0.1:2", databaseURL: "sqlite:flag.db", baseURL: "https://flag.example", logFormat: "json"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := read(t, []string{"CICOSTS_ADDR", "nonsense"}, "--addr", "127.0.0.1:0"); err != nil {
		t.Errorf("a bad variable behind a good flag: %v", err)
	}
}

func TestBadSettings(t *testing.T) {
	folder := t.TempDir()
	for _, tt := range []struct {
		name   string
		values []string // repeated, unless the setting can hold a secret
		form   string
	}{
		{"CICOSTS_ADDR", []string{"8080", "localhost", "localhost:", "localhost:65536", "localhost:-1", "localhost:http", ":x", "a:b:1"}, "want HOST:PORT with a port from 0 to 65535"},
		{"CICOSTS_DATABASE_URL", []string{"x", "sqlite", "sqlite:", "mysql://h/d", "file:x.db", "postgres://h:port/d", "cicosts.db"}, "want sqlite:PATH or postgres://USER@HOST/NAME"},
		{"CICOSTS_METRICS_ADDR", []string{"9090", "localhost:65536", "a:b:1"}, "want HOST:PORT with a port from 0 to 65535"},
		{"CICOSTS_BASE_URL", []string{"cicosts.example", "//cicosts.example", "ftp://cicosts.example", "https://", "https:///x", "https://h/path", "https://h?q", "https://h#f", "http://h:port"}, "want http://HOST or https://HOST"},
		{"CICOSTS_TRUSTED_PROXIES", []string{"10.0.0.1", "10.0.0.0/33", "proxy", "10.0.0.0/8;192.168.0.0/16", "10.0.0.0/8 192.168.0.0/16"}, "want CIDRs separated by commas"},
		{"CICOSTS_LOG_FORMAT", []string{"xml", "JSON", "text "}, "want text or json"},
		{"CICOSTS_SECRET_FILE", []string{filepath.Join(folder, "missing"), folder}, "want the path of a file that can be read"},
	} {
		for _, value := range tt.values {
			set := settingList[slices.IndexFunc(settingList, func(s setting) bool { return s.env == tt.name })]
			shown := fmt.Sprintf(" %q is not usable: ", value)
			if set.private() {
				shown = " is not usable: "
			}
			runProgram(t, "", []string{tt.name, value}, "version").want(t, 2, tt.name+shown, tt.form)
			if set.flag != "" {
				runProgram(t, "", nil, "version", "--"+set.flag, value).want(t, 2, "--"+set.flag+shown, tt.form)
			}
		}
	}
	file := write(t, "secret", testSecret)
	runProgram(t, "", []string{"CICOSTS_SECRET", testSecret, "CICOSTS_SECRET_FILE", file}, "version").want(t, 2, "CICOSTS_SECRET", "CICOSTS_SECRET_FILE", "want one of them")
}

func TestGoodSettings(t *testing.T) {
	for _, tt := range []struct{ name, value string }{
		{"CICOSTS_ADDR", ":8080"},
		{"CICOSTS_ADDR", "[::1]:0"},
		{"CICOSTS_ADDR", "localhost:65535"},
		{"CICOSTS_DATABASE_URL", "sqlite:/var/lib/cicosts/cicosts.db"},
		{"CICOSTS_DATABASE_URL", "postgres://u:p@one,two:5433/d?target_session_attrs=read-write"},
		{"CICOSTS_DATABASE_URL", "postgresql://h/d"},
		{"CICOSTS_BASE_URL", "https://cicosts.example/"},
		{"CICOSTS_BASE_URL", "http://[::1]:8080"},
		{"CICOSTS_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32,192.168.1.7/32,"},
	} {
		if _, err := read(t, []string{tt.name, tt.value}); err != nil {
			t.Errorf("%s=%s: %v", tt.name, tt.value, err)
		}
	}
	for given, want := range map[string]string{
		"https://CICosts.Example/": "https://cicosts.example", "http://h:8080": "http://h:8080", "HTTPS://h": "https://h",
		"https://h:443": "https://h", "http://h:80/": "http://h", "http://h:443": "http://h:443", "https://[::1]:443": "https://[::1]",
	} {
		if got, err := read(t, []string{"CICOSTS_BASE_URL", given}); err != nil || got.baseURL != want {
			t.Errorf("the base URL %s becomes %q, %v; want %q", given, got.baseURL, err, want)
		}
	}
	got, err := read(t, []string{"CICOSTS_TRUSTED_PROXIES", "10.1.2.3/8,2001:db8::1/32,::ffff:10.1.2.3/104"})
	if diff := cmp.Diff("[10.0.0.0/8 2001:db8::/32 10.0.0.0/8]", fmt.Sprint(got.trustedProxies)); diff != "" || err != nil {
		t.Errorf("proxies: %v (-want +got):\n%s", err, diff)
	}
}

// A secret file that others may read is still the operator's choice, but one that the program makes is private.
func TestFilesArePrivate(t *testing.T) {
	db := newDatabase(t)
	runProgram(t, "", nil, "migrate", "up", "--database-url", db).want(t, 0, "up to date")
	folder := filepath.Dir(strings.TrimPrefix(db, "sqlite:"))
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) < 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
}
