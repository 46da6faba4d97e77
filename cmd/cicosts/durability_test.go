package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

// What was confirmed is kept whatever ends right after: the program, killed, and on PostgreSQL the server too.
func TestConfirmedRevocationSurvivesAKill(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "cicosts")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	t.Run("sqlite", func(t *testing.T) {
		url := "sqlite:" + filepath.Join(t.TempDir(), "cicosts.db")
		revokeAndKill(t, bin, url, 20, func() {})
	})
	t.Run("postgres", func(t *testing.T) {
		// A crash of the server loses what it has not written, and what the system has is written.
		cluster := storetest.NewCluster(t)
		revokeAndKill(t, bin, cluster.Postgres(t), 3, func() {
			cluster.Stop(t)
			cluster.Start(t)
		})
	})
}

// revokeAndKill revokes a key, kills the program the moment that this is confirmed, has crash done, and asks the next
// program on the same database for the key, again and again.
func revokeAndKill(t *testing.T, bin, db string, rounds int, crash func()) {
	t.Helper()
	p := startProcess(t, bin, db)
	admin := newPerson(t, p.base)
	admin.setUp(p.setupLink(t))
	for range rounds {
		kept := admin.generate(url.Values{"name": {"kept"}, "mode": {"live"}})
		key := admin.generate(url.Values{"name": {"revoked"}, "mode": {"live"}})
		revoke := "/settings/api/keys/" + admin.newestKey() + "/revoke"
		if status, _ := answered(t, p.base+"/v1/key", key); status != http.StatusOK {
			t.Fatalf("the new key is answered %d", status)
		}
		admin.client.CheckRedirect = func(*http.Request, []*http.Request) error {
			p.kill() // the confirmation's head is here, and nothing else is
			return http.ErrUseLastResponse
		}
		if status, body := admin.post(revoke, nil); status != http.StatusSeeOther {
			t.Fatalf("revoking: %d %s", status, body)
		}
		crash()
		p = startProcess(t, bin, db)
		admin.base, admin.client.CheckRedirect = p.base, nil // the cookies are for every port
		if status, _ := answered(t, p.base+"/v1/key", key); status != http.StatusUnauthorized {
			t.Errorf("after the restart the revoked key is answered %d", status)
		}
		if status, _ := answered(t, p.base+"/v1/key", kept); status != http.StatusOK {
			t.Errorf("after the restart the other key is answered %d", status)
		}
	}
}

// process is the program as a process of its own.
type process struct {
	base  string
	setup chan string // gets the setup link
	cmd   *exec.Cmd
}

// kill ends the process as SIGKILL does, once, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // or it has ended already
	_ = p.cmd.Wait()
}

func startProcess(t *testing.T, bin, db string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, "serve", "--addr", "127.0.0.1:0", "--log-format", "json")
	cmd.Env = append(os.Environ(), "CICOSTS_DATABASE_URL="+db, "CICOSTS_SECRET="+testSecret)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, setup: make(chan string, 1)}
	t.Cleanup(p.kill)
	lines := bufio.NewScanner(read)
	for p.base == "" && lines.Scan() {
		var record struct{ Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &record) == nil && record.Msg == "listening" {
			p.base = "http://" + record.Addr
		}
	}
	if p.base == "" {
		t.Fatal("the program ended before it listened")
	}
	go func() { // the rest, until the process ends, so that it never waits to write
		defer read.Close()
		for lines.Scan() {
			if link := regexp.MustCompile(`http\S+/setup\S+`).FindString(lines.Text()); link != "" {
				p.setup <- link
			}
		}
		_, _ = io.Copy(io.Discard, read)
	}()
	return p
}

// setupLink is what the program prints on a database without users.
func (p *process) setupLink(t *testing.T) string {
	t.Helper()
	select {
	case link := <-p.setup:
		return link
	case <-time.After(time.Minute):
		t.Fatal("no setup link")
		return ""
	}
}
