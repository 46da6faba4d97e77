package store

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"cicosts/models"
)

// Check is one thing that the program's promises rest on, and how it is.
type Check struct {
	Name  string
	State CheckState
	Text  string // what was found and, where that is not well, what to change
}

// CheckState is how a Check came out.
type CheckState string

// What a check may come out as.
const (
	CheckOK   CheckState = "ok"
	CheckWarn CheckState = "warn" // a promise holds, but not in every failure
	CheckFail CheckState = "fail" // a promise does not hold, or the program would not start
)

func ok(name, format string, args ...any) Check {
	return Check{name, CheckOK, fmt.Sprintf(format, args...)}
}

func warn(name, format string, args ...any) Check {
	return Check{name, CheckWarn, fmt.Sprintf(format, args...)}
}

func fail(name, format string, args ...any) Check {
	return Check{name, CheckFail, fmt.Sprintf(format, args...)}
}

// maxClockSkew is how far the clocks of the program and the database may be apart.
const maxClockSkew = 5 * time.Second

// Checks examines the database, and the fingerprints of the secrets given, newest first. It changes nothing.
func (s *Store) Checks(ctx context.Context, secrets []string) []Check {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var list []Check
	if s.dialect == postgres {
		list = append(list, s.checkPrimary())
		list = append(list, s.checkHosts()...)
		list = append(list, s.checkSettings(ctx)...)
		list = append(list, s.checkReplication(), s.checkClock(ctx))
	} else {
		list = append(list, s.checkFile(), s.checkPragmas(ctx))
	}
	schema := s.checkSchema(ctx)
	list = append(list, schema)
	if schema.State != CheckOK {
		return list // the rest is read from tables that may not be there
	}
	list = append(list, s.checkSecrets(ctx, secrets))
	if s.dialect == postgres {
		list = append(list, s.checkFailovers(ctx))
	}
	return list
}

func (s *Store) checkPrimary() Check {
	w := s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.history.known() {
		return warn("primary", "%s accepts writes, but the role may not read its timeline, so a failover behind its address goes unnoticed; let it execute pg_walfile_name and pg_control_system", w.primary.name)
	}
	return ok("primary", "%s accepts writes, on timeline %d", w.primary.name, w.history.Timeline)
}

// checkHosts tells of every host but the primary.
func (s *Store) checkHosts() []Check {
	w := s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Check
	for i, h := range w.hosts {
		v := &w.views[i]
		switch {
		case v.Err != nil && h == w.primary:
			list = append(list, fail("host", "%s, the primary, does not answer: %v", h.name, v.Err))
		case v.Err != nil:
			list = append(list, warn("host", "%s does not answer, so a failover to it could not be followed: %v", h.name, v.Err))
		case h == w.primary:
		case v.Standby:
			list = append(list, ok("host", "%s is a standby", h.name))
		case v.History.before(w.history):
			list = append(list, fail("host", "%s is an old primary, on timeline %d, that still accepts writes; stop it and rebuild it as a standby", h.name, v.History.Timeline))
		default:
			list = append(list, ok("host", "%s accepts writes too", h.name))
		}
	}
	for _, h := range w.hosts {
		if !h.verified() {
			list = append(list, warn("TLS", "whoever stands between here and %s can answer in its name; add sslmode=verify-full to the database URL", h.name))
		}
	}
	return list
}

// verified reports whether nobody can pose as the host: it is on this machine, or its certificate and name are checked.
func (h *watchedHost) verified() bool {
	host := h.routes[0].Host
	if ip, err := netip.ParseAddr(host); filepath.IsAbs(host) || host == "localhost" || err == nil && ip.IsLoopback() {
		return true
	}
	for _, r := range h.routes {
		if r.TLSConfig == nil || r.TLSConfig.InsecureSkipVerify {
			return false
		}
	}
	return true
}

// checkSettings examines the server itself. What it fails is refused on opening too.
func (s *Store) checkSettings(ctx context.Context) []Check {
	var server struct {
		Version, SyncMode, Fsync, PageWrites string
		Number                               int
	}
	err := s.read.WithContext(ctx).Raw(`SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
		current_setting('synchronous_commit') AS sync_mode, current_setting('fsync') AS fsync, current_setting('full_page_writes') AS page_writes`).Scan(&server).Error
	if err != nil {
		return []Check{fail("settings", "the server could not be asked: %v", err)}
	}
	list := []Check{ok("version", "PostgreSQL %s", server.Version), ok("synchronous_commit", "%s", server.SyncMode)}
	if server.Number < oldestPostgres {
		list[0] = fail("version", "PostgreSQL %s is too old, want 15 or newer", server.Version)
	}
	if server.SyncMode == "off" {
		list[1] = fail("synchronous_commit", "synchronous_commit is off, so a confirmed revocation could be lost; set it to on")
	}
	if server.Fsync != "on" || server.PageWrites != "on" {
		list = append(list, warn("fsync", "fsync is %s and full_page_writes %s, so a crash of the machine can lose confirmed revocations; set both to on", server.Fsync, server.PageWrites))
	}
	return list
}

// checkServer refuses a server on which a confirmed revocation could be forgotten or not seen.
func (s *Store) checkServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for _, c := range s.checkSettings(ctx) {
		if c.State == CheckFail {
			return fmt.Errorf("%s", c.Text)
		}
	}
	return nil
}

func (s *Store) checkReplication() Check {
	w := s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &w.view
	async := v.asynchronous()
	for _, standby := range v.Standbys {
		if _, state := cutLast(standby); state == "" {
			return warn("replication", "the role may not see whether replication is synchronous (to %s), so every failover counts as a loss; GRANT pg_monitor to it", strings.Join(async, ", "))
		}
	}
	const advice = "a failover can lose confirmed revocations, which the pages would then say; name every standby that may be promoted in synchronous_standby_names"
	switch {
	case len(async) > 0:
		return warn("replication", "%s without synchronous replication: %s", strings.Join(async, ", "), advice)
	case v.elsewhere():
		return warn("replication", "%d of the database URL's standbys are not connected to the primary: %s", v.StandbyHosts-len(v.Standbys), advice)
	case len(v.Standbys) > 0:
		return ok("replication", "synchronous, to %d", len(v.Standbys))
	case v.StandbyNames != "":
		return warn("replication", "no standby is connected, and changes wait for one (synchronous_standby_names is %s)", v.StandbyNames)
	case len(w.hosts) > 1:
		return warn("replication", "no standby is connected, although the database URL names several hosts: %s", advice)
	}
	return ok("replication", "no standby")
}

func (s *Store) checkClock(ctx context.Context) Check {
	var there models.Instant
	before := s.now()
	err := s.read.WithContext(ctx).Raw("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").Scan(&there).Error
	if err != nil {
		return fail("clock", "the database could not be asked: %v", err)
	}
	half := s.now().Sub(before) / 2
	skew := there.Time().Sub(before.Add(half))
	if skew.Abs() > maxClockSkew+half {
		return fail("clock", "the database's is %v from this machine's, so expiry and the times shown are wrong; synchronise both (NTP)", skew.Round(time.Second))
	}
	return ok("clock", "within %v of the database's", maxClockSkew)
}

func (s *Store) checkFile() Check { return CheckPrivate("file", s.location) }

// CheckPrivate examines whether only the file's owner may read and write it.
// The Check has the given name.
func CheckPrivate(name, file string) Check {
	info, err := os.Stat(file)
	if err != nil {
		return fail(name, "%v", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return warn(name, "%s can be read by others (mode %#o); chmod 600 it", file, mode)
	}
	return ok(name, "%s", file)
}

func (s *Store) checkPragmas(ctx context.Context) Check {
	var journal string
	var synchronous int
	db := s.write.WithContext(ctx)
	if err := db.Raw("PRAGMA journal_mode").Scan(&journal).Error; err != nil {
		return fail("durability", "the file could not be read: %v", err)
	}
	if err := db.Raw("PRAGMA synchronous").Scan(&synchronous).Error; err != nil {
		return fail("durability", "the file could not be read: %v", err)
	}
	const full = 2
	if synchronous < full {
		return fail("durability", "synchronous is %d, want FULL (%d)", synchronous, full)
	}
	if !strings.EqualFold(journal, "wal") {
		return warn("durability", "the journal is %s; the next start of serve makes it WAL", journal)
	}
	return ok("durability", "write-ahead log, synchronous=FULL")
}

// checkSchema reads goose's table itself, because goose would make it.
func (s *Store) checkSchema(ctx context.Context) Check {
	p, err := s.migrations(false)
	if err != nil {
		return fail("schema", "%v", err)
	}
	sources := p.ListSources()
	knows := sources[len(sources)-1].Version
	var has int64
	err = s.read.WithContext(ctx).Raw("SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&has).Error
	switch {
	case err != nil:
		return fail("schema", "there is none, or it cannot be read; run cicosts migrate up (%v)", err)
	case has > knows:
		return fail("schema", "version %d, but this program knows only %d: use a newer program", has, knows)
	case has < knows:
		return fail("schema", "version %d, and this program wants %d; run cicosts migrate up, or serve, which does so", has, knows)
	}
	return ok("schema", "version %d, up to date", has)
}

func (s *Store) checkSecrets(ctx context.Context, given []string) Check {
	inUse, err := secretsInUse(s.read.WithContext(ctx))
	if err != nil {
		return fail("secret", "the fingerprints could not be read: %v", err)
	}
	for _, id := range inUse {
		if !slices.Contains(given, id) {
			return fail("secret", "the database uses one that was not given (fingerprint %s); set CICOSTS_SECRET to what it was started with", id)
		}
	}
	if len(inUse) == 0 {
		return ok("secret", "none in use yet")
	}
	return ok("secret", "fingerprint %s, as in use", strings.Join(inUse, ", "))
}

// secretsInUse lists the fingerprints of the secrets that the database depends on.
func secretsInUse(db *gorm.DB) (ids []string, err error) {
	err = db.Raw(`SELECT id FROM secrets s WHERE EXISTS (SELECT 1 FROM api_keys k WHERE k.secret_id = s.id AND k.revoked_at = 0)
		OR s.first_used_at = (SELECT max(first_used_at) FROM secrets)`).Scan(&ids).Error
	return ids, err
}

func (s *Store) checkFailovers(ctx context.Context) Check {
	var open struct {
		N        int64
		From, To models.Instant
	}
	err := s.read.WithContext(ctx).Raw(`SELECT count(DISTINCT account_id) AS n, coalesce(min(lost_from), 0) AS "from", coalesce(max(lost_to), 0) AS "to"
		FROM failovers WHERE looked_at = 0`).Scan(&open).Error
	switch {
	case err != nil:
		return fail("failovers", "the notices could not be read: %v", err)
	case open.N > 0:
		return warn("failovers", "what was revoked between %s and %s may be lost, and %d account(s) have not looked; revoke it again, then dismiss the notice on Settings → API",
			open.From.Time().Format(time.RFC3339), open.To.Time().Format(time.RFC3339), open.N)
	}
	return ok("failovers", "none that must be looked at")
}
