package store

import (
	"errors"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Why a database URL is refused. Neither error holds any part of the URL, which
// may contain a password.
var (
	errURL = errors.New("want sqlite:PATH or postgres://USER@HOST/NAME, where special characters in USER and a password are percent-encoded")

	errSQLitePath = errors.New("want sqlite:PATH with the path of a file, such as sqlite:/var/lib/cicosts/cicosts.db; " +
		"memory, URIs and parameters are not supported")
)

// CheckURL reports whether url is of a form that Open accepts, without opening
// anything. Its error never contains a part of url.
//
// An accepted URL holds a password only where a password belongs: Open's errors
// and Location name the user, the hosts and the database.
func CheckURL(url string) error {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return checkSQLitePath(path)
	}
	if !isPostgres(url) || !isPlainPostgres(url) {
		return errURL
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return errURL // not pgx's error, which quotes the URL
	}
	routes := append([]*pgconn.FallbackConfig{{Host: cfg.ConnConfig.Host}}, cfg.ConnConfig.Fallbacks...)
	for _, r := range routes {
		if !isHost(r.Host) {
			return errURL
		}
	}
	// A colon or the like shows a password that went into the name.
	if strings.ContainsAny(cfg.ConnConfig.User, ":;=/ \t") {
		return errURL
	}
	return nil
}

// parameter matches the first parameter of a URI. A file's name may otherwise
// contain a question mark.
var parameter = regexp.MustCompile(`\?[A-Za-z_]+=`)

// checkSQLitePath refuses the forms by which SQLite, its drivers and other
// programs mean something other than a file of that name.
func checkSQLitePath(path string) error {
	switch {
	case path == "":
		return errURL
	case strings.HasPrefix(path, "//"), strings.HasPrefix(path, ":"), strings.HasPrefix(path, "file:"),
		strings.Contains(path, ":memory:"), strings.Contains(path, "\x00"), parameter.MatchString(path):
		return errSQLitePath
	}
	return nil
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// SQLitePath returns the path of url's database file, or false where url is not
// SQLite's.
func SQLitePath(url string) (string, bool) { return strings.CutPrefix(url, "sqlite:") }

var parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// isPlainPostgres reports whether the URL names a host, and has no misplaced
// password. Some characters after the user and the password show one, or a
// password that is not percent-encoded, although pgx accepts them there. For pgx
// the user and the password end at the first "@" before any "/".
func isPlainPostgres(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		rest = rest[i+1:]
	}
	blank := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	if strings.IndexFunc(url, blank) >= 0 || strings.ContainsAny(rest, "@#") {
		return false
	}
	place, query, _ := strings.Cut(rest, "?")
	hosts, database, _ := strings.Cut(place, "/")
	if strings.ContainsAny(database, "/:;=&") {
		return false
	}
	named := strings.Trim(hosts, ",") != "" && !strings.HasPrefix(hosts, ":")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case !parameterName.MatchString(name):
			return false
		case name == "host" || name == "hostaddr" || name == "service":
			named = named || value != ""
		case name == "dbname" || name == "database":
			if strings.ContainsAny(value, "/:;") {
				return false
			}
		}
	}
	return named
}

var hostName = regexp.MustCompile(`^[\pL\pN_.-]+$`)

// isHost reports whether host is a name, an address or the folder of a socket.
func isHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || filepath.IsAbs(host) || hostName.MatchString(host)
}
