package revocation

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"cicosts/models/store/storetest"
)

// behindPgBouncer has both replicas, which migrate the database first, reach it through PgBouncer, which gives each
// transaction another connection.
func behindPgBouncer(t *testing.T, cluster *storetest.Cluster) *site {
	return &site{database: pgbouncer(t, cluster.Empty(t)), cluster: cluster}
}

// pgbouncer starts PgBouncer in transaction mode before the server of a database and returns the database's URL through it.
func pgbouncer(t *testing.T, database string) string {
	t.Helper()
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		if bin = "/usr/sbin/pgbouncer"; exec.Command(bin, "--version").Run() != nil {
			if os.Getenv("CI") == "" {
				t.Skip("PgBouncer is not installed: apt-get install pgbouncer, or run make test as root")
			}
			t.Fatal("PgBouncer is not installed")
		}
	}
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "cicosts-pgbouncer-") // not t.TempDir, into which only we can see
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = host=%s user=postgres\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = %s\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 4\n",
		u.Query().Get("host"), dir)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Geteuid() == 0 {
		args = append(args, "--user", "postgres") // it refuses to be root
	}
	cmd := exec.Command(bin, args...)
	p := start(t, cmd, filepath.Join(t.TempDir(), "pgbouncer.log"))
	waitFor(t, "PgBouncer listens", func() error {
		select {
		case <-p.ended:
			return errors.New("it has ended")
		default:
		}
		_, err := os.Stat(filepath.Join(dir, ".s.PGSQL.6432"))
		return err
	})
	u.RawQuery = url.Values{"host": {dir}, "port": {"6432"}, "sslmode": {"disable"}, "default_query_exec_mode": {"exec"}}.Encode()
	return u.String()
}
