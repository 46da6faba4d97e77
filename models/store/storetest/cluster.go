package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Cluster is a PostgreSQL server on a Unix socket in a folder of its own. It is safe for concurrent use, Start and Stop
// excepted. Its user is a superuser, so that a test may change any setting.
type Cluster struct {
	// Data is the server's data directory.
	Data string

	dir      string // holds the data, the socket and the log
	bin      string
	shared   bool                // by the tests of a process; else the databases go with the server
	cred     *syscall.Credential // nil: run as ourselves
	watchdog *exec.Cmd           // nil while stopped
	leash    io.WriteCloser      // the watchdog's standard input

	mu       sync.Mutex // guards what follows
	admin    *pgx.Conn  // nil while stopped
	made     int        // databases so far
	template bool       // the migrated template exists
}

const (
	startTimeout = 60 * time.Second
	templateName = "cicosts_template"
)

var errMissing = errors.New("PostgreSQL is not installed")

// NewCluster starts a server that this test alone uses, for tests that stop it or change its settings; settings are of
// the form name=value. It is removed when the test ends.
func NewCluster(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c, err := newCluster(settings...)
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(c.remove)
	return c
}

func unavailable(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errMissing) && os.Getenv("CI") == "" {
		t.Skipf("%v: apt-get install postgresql, or run make test as root", err)
	}
	t.Fatalf("PostgreSQL for tests: %v", err)
}

func newCluster(settings ...string) (_ *Cluster, err error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	cred, err := serverUser()
	if err != nil {
		return nil, err
	}
	// Not $TMPDIR: a socket's path has at most 107 bytes, and the server's user must be able to reach it.
	dir, err := os.MkdirTemp("/tmp", "cicosts-pg-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{Data: filepath.Join(dir, "data"), dir: dir, bin: bin, cred: cred}
	defer func() {
		if err != nil {
			c.remove()
		}
	}()
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := c.command(filepath.Join(bin, "initdb"), "--pgdata", c.Data, "--username", "postgres", "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return c, c.start(settings)
}

// findPostgres returns the folder of the newest installed server.
func findPostgres() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	best, newest := "", -1
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue // a client only
		}
		if version, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))); version > newest {
			best, newest = dir, version
		}
	}
	if best != "" {
		return best, nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errMissing
	}
	return filepath.Dir(path), nil
}

// serverUser returns whom to run the server as: it refuses to be root.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w: root has no user postgres to run it as", errMissing)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// command prepares a program in a session of its own, so that Ctrl-C reaches the tests alone.
func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred, Setsid: true}
	return cmd
}

// watch runs the server until its standard input ends, as it does when this process has ended, however that came about.
const watch = `dir=$1; shift
"$@" & server=$!
read -r word
kill -QUIT "$server"; kill -CONT "$server"; wait "$server"
test "$word" = keep || rm -rf "$dir"`

// Start starts a stopped server again, with settings of the form name=value beside the usual ones.
func (c *Cluster) Start(t testing.TB, settings ...string) {
	t.Helper()
	if err := c.start(settings); err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
}

func (c *Cluster) start(settings []string) error {
	args := []string{"-c", watch, "watch", c.dir, filepath.Join(c.bin, "postgres"), "-D", c.Data, "-k", c.dir}
	settings = append([]string{
		"listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=200",
		"shared_buffers=32MB",
	}, settings...)
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// Not our own output: go test would wait for whoever holds it.
	cmd := c.command("/bin/sh", args...)
	cmd.Stdout, cmd.Stderr = log, log
	leash, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.watchdog, c.leash = cmd, leash
	return c.connect()
}

// connect waits until the server answers.
func (c *Cluster) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		admin, err := pgx.Connect(ctx, c.url("postgres"))
		if err == nil {
			// So that a test whose synchronous standby is away can still make databases.
			_, err = admin.Exec(ctx, "SET synchronous_commit TO local")
		}
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.admin = admin
			return nil
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("%w\n%s", err, log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the server at once, as a crash would; what was committed is there after Start.
func (c *Cluster) Stop(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(c.leash, "keep\n"); err != nil {
		t.Fatalf("stopping PostgreSQL: %v", err)
	}
	c.stop()
}

func (c *Cluster) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchdog == nil {
		return
	}
	c.leash.Close()
	_ = c.watchdog.Wait() // the server's end is the watchdog's, and it was not a clean one
	if c.admin != nil {
		c.admin.Close(context.Background())
	}
	c.watchdog, c.admin = nil, nil
}

func (c *Cluster) remove() {
	c.stop()
	os.RemoveAll(c.dir)
}

// Empty returns the URL of a new, empty database, gone when the test has ended.
func (c *Cluster) Empty(t testing.TB) string {
	t.Helper()
	return c.create(t, "template1")
}

// Postgres returns the URL of a new, migrated database, gone when the test has ended.
func (c *Cluster) Postgres(t testing.TB) string {
	t.Helper()
	if err := c.makeTemplate(); err != nil {
		t.Fatalf("migrating the template: %v", err)
	}
	return c.create(t, templateName)
}

func (c *Cluster) makeTemplate() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.template {
		return nil
	}
	if _, err := c.admin.Exec(context.Background(), "CREATE DATABASE "+templateName); err != nil {
		return err
	}
	c.template = true
	return migrate(c.url(templateName))
}

func (c *Cluster) create(t testing.TB, template string) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	name := fmt.Sprintf("test_%d", c.made)
	ctx := context.Background()
	if _, err := c.admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatalf("creating a database: %v", err)
	}
	if !c.shared {
		return c.url(name)
	}
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, err := c.admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("dropping a database: %v", err)
		}
	})
	return c.url(name)
}

func (c *Cluster) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User("postgres"), Path: "/" + database,
		RawQuery: url.Values{"host": {c.dir}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}
