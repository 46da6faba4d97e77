package storetest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestEach(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		if err := st.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		states, err := st.MigrationStates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range states {
			if m.AppliedAt.IsZero() {
				t.Errorf("%s is pending", m.Name)
			}
		}
	})
}

func TestDatabasesAreApart(t *testing.T) {
	if a, b := storetest.SQLite(t), storetest.SQLite(t); a == b {
		t.Errorf("two SQLite databases at %s", a)
	}
	if a, b := storetest.Postgres(t), storetest.Postgres(t); a == b {
		t.Errorf("two PostgreSQL databases at %s", a)
	}
}

func TestClusterStopAndStart(t *testing.T) {
	c := storetest.NewCluster(t)
	st := storetest.Open(t, c.Postgres(t))
	c.Stop(t)
	if err := st.Ping(t.Context()); err == nil {
		t.Error("a stopped server answered")
	}
	c.Start(t)
	for deadline := time.Now().Add(time.Minute); st.Ping(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not answer after the start")
		}
	}
}

// TestServerEndsWithAKilledProcess runs this test again as a process that is killed while it holds a server.
func TestServerEndsWithAKilledProcess(t *testing.T) {
	if os.Getenv("STORETEST_HOLD") != "" {
		fmt.Println("data=" + storetest.NewCluster(t).Data)
		select {}
	}
	storetest.Postgres(t) // skips where there is no server
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "STORETEST_HOLD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	data, lines := "", bufio.NewScanner(out)
	for data == "" && lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "data="); ok {
			data = value
		}
	}
	pidFile, _ := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	first, _, _ := strings.Cut(string(pidFile), "\n")
	server, _ := strconv.Atoi(first)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if server == 0 {
		t.Fatalf("no server in %q", data)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, folder := os.Stat(filepath.Dir(data))
		process := syscall.Kill(server, 0)
		if errors.Is(folder, fs.ErrNotExist) && errors.Is(process, syscall.ESRCH) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v, process %d: %v; want neither", filepath.Dir(data), folder, server, process)
		}
	}
}

func TestStandbyFollowsAndIsPromoted(t *testing.T) {
	primary := storetest.NewCluster(t)
	url := primary.Empty(t)
	standby := primary.Standby(t)
	storetest.Exec(t, url, "CREATE TABLE seen (n INTEGER)")
	primary.CaughtUp(t, standby)
	there := storetest.WithHosts(url, standby.Host())
	if _, err := storetest.DB(t, there).Exec("INSERT INTO seen VALUES (1)"); err == nil {
		t.Error("the standby takes writes")
	}
	primary.Freeze(t)
	db := storetest.DB(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := db.PingContext(ctx); err == nil {
		t.Error("the frozen primary answers")
	}
	standby.Promote(t)
	storetest.Exec(t, there, "INSERT INTO seen VALUES (1)")
	primary.Thaw(t)
	storetest.Exec(t, storetest.WithHosts(url, primary.Host()), "INSERT INTO seen VALUES (2)")
}
