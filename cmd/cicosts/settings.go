package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"cicosts/models/store"
)

// settings is how the program is set up, checked.
type settings struct {
	addr           string
	databaseURL    string
	baseURL        string // "" where it follows from the address listened on
	secret         string
	secretFile     string
	trustedProxies []netip.Prefix
	metricsAddr    string // "" for none
	logFormat      string

	// What a single command takes, as flags alone.
	email, account, role string
	passwordStdin        bool
}

const (
	defaultAddr        = "127.0.0.1:8080"
	defaultBaseURL     = "http://localhost:8080"
	defaultDatabaseURL = "sqlite:cicosts.db"
)

// setting is one row of the README's table: a variable, its flag ("" for none) and how a value is read.
type setting struct {
	env, flag         string
	defaults, meaning string
	read              func(s *settings, value string) error // its error names the accepted form
}

var settingList = []setting{
	{"CICOSTS_ADDR", "addr", defaultAddr, "listen address; port 0 picks one", readAddr},
	{"CICOSTS_DATABASE_URL", "database-url", defaultDatabaseURL, "sqlite:PATH, created when missing, or postgres://…, where several hosts may stand", readDatabaseURL},
	{"CICOSTS_BASE_URL", "base-url", defaultBaseURL + " at the default address, else http:// and the address listened on", "public address, for links and curl lines; cookies are Secure when it is https", readBaseURL},
	{"CICOSTS_SECRET", "", "with SQLite a file cicosts.secret beside the database, made once; with PostgreSQL none", "base64 secrets of 32 bytes or more, comma-separated, newest first", readSecret},
	{"CICOSTS_SECRET_FILE", "", "none", "file that holds what CICOSTS_SECRET would", readSecretFile},
	{"CICOSTS_TRUSTED_PROXIES", "trusted-proxies", "none", "CIDRs, comma-separated, whose X-Forwarded-For is believed", readTrustedProxies},
	{"CICOSTS_METRICS_ADDR", "metrics-addr", "none", "listen address of Prometheus metrics, at /metrics; port 0 picks one", readMetricsAddr},
	{"CICOSTS_LOG_FORMAT", "log-format", "text on a terminal, else json", "text or json", readLogFormat},
}

// private reports whether a value of the setting can contain a secret, even if
// only by mistake, so that no error may repeat it.
func (s setting) private() bool {
	switch s.env {
	case "CICOSTS_DATABASE_URL", "CICOSTS_SECRET", "CICOSTS_SECRET_FILE":
		return true
	}
	return false
}

func isSetting(flagName string) bool {
	for _, s := range settingList {
		if s.flag == flagName {
			return true
		}
	}
	return false
}

// addFlags declares every flag and returns where those of the settings are kept until they are read.
func addFlags(flags *flag.FlagSet) map[string]*string {
	values := map[string]*string{}
	for _, s := range settingList {
		if s.flag != "" {
			values[s.flag] = flags.String(s.flag, "", s.meaning)
		}
	}
	for _, name := range []string{"email", "account", "role"} {
		values[name] = flags.String(name, "", "")
	}
	flags.Bool("password-stdin", false, "")
	return values
}

// readSettings checks every setting: a flag wins over the environment, and an empty variable counts as unset.
func readSettings(values map[string]*string, flags *flag.FlagSet, env func(string) (string, bool), terminal bool) (settings, error) {
	s := settings{addr: defaultAddr, databaseURL: defaultDatabaseURL, logFormat: "json"}
	if terminal {
		s.logFormat = "text"
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, set := range settingList {
		value, _ := env(set.env)
		source := set.env
		if given[set.flag] {
			value, source = *values[set.flag], "--"+set.flag
		}
		if value == "" && !given[set.flag] {
			continue
		}
		if err := set.read(&s, value); err != nil {
			if set.private() {
				return s, badUsage("%s is not usable: %v", source, err)
			}
			return s, badUsage("%s%s is not usable: %v", source, shown(value), err)
		}
	}
	if s.secret != "" && s.secretFile != "" {
		return s, badUsage("CICOSTS_SECRET and CICOSTS_SECRET_FILE are both set; want one of them")
	}
	s.email, s.account, s.role = *values["email"], *values["account"], *values["role"]
	s.passwordStdin = flags.Lookup("password-stdin").Value.String() == "true"
	return s, nil
}

func readAddr(s *settings, value string) error {
	s.addr = value
	return checkAddr(value)
}

func readMetricsAddr(s *settings, value string) error {
	s.metricsAddr = value
	if value == "" { // a flag that turns off what the environment turns on
		return nil
	}
	return checkAddr(value)
}

func checkAddr(value string) error {
	_, port, err := net.SplitHostPort(value)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil {
		return fmt.Errorf("want HOST:PORT with a port from 0 to 65535")
	}
	return nil
}

func readDatabaseURL(s *settings, value string) error {
	s.databaseURL = value
	return store.CheckURL(value)
}

func readBaseURL(s *settings, value string) error {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("want http://HOST or https://HOST, with a port where needed and no path")
	}
	usualPort := map[string]string{"http": ":80", "https": ":443"}[u.Scheme] // which browsers leave out of Origin
	s.baseURL = u.Scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Host), usualPort)
	return nil
}

func readSecret(s *settings, value string) error {
	s.secret = value
	_, err := parseSecrets(value)
	return err
}

func readSecretFile(s *settings, value string) error {
	s.secretFile = value
	info, err := os.Stat(value)
	if err != nil || info.IsDir() {
		return fmt.Errorf("want the path of a file that can be read")
	}
	return nil
}

func readTrustedProxies(s *settings, value string) error {
	s.trustedProxies = nil
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return fmt.Errorf("want CIDRs separated by commas, such as 10.0.0.0/8,192.168.1.7/32")
		}
		if a := prefix.Addr(); a.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96)
		}
		s.trustedProxies = append(s.trustedProxies, prefix.Masked())
	}
	return nil
}

func readLogFormat(s *settings, value string) error {
	if value != "text" && value != "json" {
		return fmt.Errorf("want text or json")
	}
	s.logFormat = value
	return nil
}

// logger writes to standard error in the format set.
func (c *call) logger() *slog.Logger { return slog.New(c.settings.logHandler(c.err)) }

// logHandler writes to w in the format set.
func (s settings) logHandler(w io.Writer) slog.Handler {
	if s.logFormat == "text" {
		return slog.NewTextHandler(w, nil)
	}
	return slog.NewJSONHandler(w, nil)
}
