package storetest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby starts a server that follows c by streaming replication, with settings of the form name=value, and is removed
// when the test ends. Its cluster_name, by which synchronous_standby_names knows it, is "standby" unless a setting says
// otherwise. It answers reads until Promote.
func (c *Cluster) Standby(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	s, err := c.standby(settings)
	if err != nil {
		t.Fatalf("starting a standby: %v", err)
	}
	t.Cleanup(s.remove)
	return s
}

func (c *Cluster) standby(settings []string) (_ *Cluster, err error) {
	dir, err := os.MkdirTemp("/tmp", "cicosts-pg-")
	if err != nil {
		return nil, err
	}
	s := &Cluster{Data: filepath.Join(dir, "data"), dir: dir, bin: c.bin, cred: c.cred}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
	if c.cred != nil {
		if err := os.Chown(dir, int(c.cred.Uid), int(c.cred.Gid)); err != nil {
			return nil, err
		}
	}
	backup := s.command(filepath.Join(c.bin, "pg_basebackup"), "--host", c.dir, "--username", "postgres", "--pgdata", s.Data,
		"--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	return s, s.start(append([]string{"cluster_name=standby"}, settings...))
}

// Promote makes a standby a primary of its own, on a new timeline, and returns when it takes writes.
func (c *Cluster) Promote(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var done bool
	if err := c.admin.QueryRow(context.Background(), "SELECT pg_promote(true, 60)").Scan(&done); err != nil || !done {
		t.Fatalf("promoting: %v, %v", done, err)
	}
}

// CaughtUp waits until the standby has replayed all that the primary c has committed.
func (c *Cluster) CaughtUp(t testing.TB, standby *Cluster) {
	t.Helper()
	var lsn string
	c.query(t, "SELECT pg_current_wal_flush_lsn()::text", &lsn)
	standby.await(t, "SELECT pg_last_wal_replay_lsn() >= '"+lsn+"'::pg_lsn", "the standby did not catch up")
}

// ReceiveWAL archives the write-ahead log of c by streaming, as pg_receivewal does, until the test ends.
func (c *Cluster) ReceiveWAL(t testing.TB) {
	t.Helper()
	folder := filepath.Join(c.dir, "archive")
	err := os.Mkdir(folder, 0o700)
	if err == nil && c.cred != nil {
		err = os.Chown(folder, int(c.cred.Uid), int(c.cred.Gid))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.command(filepath.Join(c.bin, "pg_receivewal"), "--host", c.dir, "--username", "postgres", "--directory", folder,
		"--no-loop") // ends with the server
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c.await(t, "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE application_name = 'pg_receivewal' AND state = 'streaming')",
		"the log is not archived")
}

// SetStandbys has the server wait with commits for standbys of these names, or for none, as soon as its processes know.
func (c *Cluster) SetStandbys(t testing.TB, names string) {
	t.Helper()
	var done bool
	c.mu.Lock()
	_, err := c.admin.Exec(context.Background(), "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'")
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.query(t, "SELECT pg_reload_conf()", &done)
}

// InSync returns when a standby of c is synchronous.
func (c *Cluster) InSync(t testing.TB) {
	t.Helper()
	c.await(t, "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync')", "no standby is synchronous")
}

// CommitsWait returns when commits wait for a standby, as they do some time after SetStandbys with one that is missing.
func (c *Cluster) CommitsWait(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	probe, err := pgx.Connect(ctx, c.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close(context.Background())
	for waited := false; !waited; {
		over := make(chan error, 1)
		go func() {
			// The least there is to commit.
			_, err := probe.Exec(ctx, "SET LOCAL synchronous_commit TO on; SELECT pg_logical_emit_message(true, '', '')")
			over <- err
		}()
		for done := false; !done; {
			select {
			case err := <-over:
				if err != nil {
					t.Fatalf("no commit waits for a standby: %v", err)
				}
				done = true
			case <-time.After(5 * time.Millisecond):
				var ended int
				c.query(t, fmt.Sprint("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = ",
					probe.PgConn().PID()), &ended)
				waited = waited || ended > 0
			}
		}
	}
}

// await asks the server until it says true.
func (c *Cluster) await(t testing.TB, question, otherwise string) {
	t.Helper()
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		var so bool
		c.query(t, question, &so)
		if so {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

func (c *Cluster) query(t testing.TB, statement string, dest any) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.admin.QueryRow(context.Background(), statement).Scan(dest); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Freeze stops every process of the server as a hung machine would: connections stand, new ones are accepted by the
// kernel, and nothing answers until Thaw. Linux only.
func (c *Cluster) Freeze(t testing.TB) { c.signalAll(t, syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (c *Cluster) Thaw(t testing.TB) { c.signalAll(t, syscall.SIGCONT) }

func (c *Cluster) signalAll(t testing.TB, signal syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.Data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(postmaster, signal); err != nil {
		t.Fatal(err)
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	if len(stats) == 0 {
		t.Skip("processes are found in /proc, which only Linux has")
	}
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent …
		fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
		if len(fields) > 1 && fields[1] == first {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			_ = syscall.Kill(pid, signal) // it may have ended
		}
	}
}

// Host is where the server listens: the folder of its Unix socket, which stands in a URL as a host.
func (c *Cluster) Host() string { return c.dir }

// WithHosts returns the URL of the same database on these hosts, in this order: folders of Unix sockets (Cluster.Host) or
// HOST:PORT.
func WithHosts(databaseURL string, hosts ...string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // a test's own
	}
	var names, ports []string
	for _, h := range hosts {
		name, port, err := net.SplitHostPort(h)
		if err != nil {
			name, port = h, "5432"
		}
		names, ports = append(names, name), append(ports, port)
	}
	u.Host = ""
	q := u.Query()
	q.Set("host", strings.Join(names, ","))
	q.Set("port", strings.Join(ports, ","))
	u.RawQuery = q.Encode()
	return u.String()
}
