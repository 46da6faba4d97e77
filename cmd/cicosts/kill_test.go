package main

import (
	"bufio"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

// TestKilledAfterTenSeconds runs this test again as a process of its own, which serves, uses keys, and kills it: what was
// used before the last ten seconds is on disk, with the newest use of the key that works and of the one that does not.
func TestKilledAfterTenSeconds(t *testing.T) {
	const child = "TEST_IS_KILLED"
	if db := os.Getenv(child); db != "" {
		os.Exit(run([]string{"serve", "--addr", "127.0.0.1:0", "--database-url", db}))
	}
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledAfterTenSeconds$")
		cmd.Env = append(os.Environ(), child+"="+db, "CICOSTS_SECRET="+testSecret)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		_, link, _ := strings.Cut(strings.TrimSpace(line), "owner: ")
		base, _, _ := strings.Cut(link, "/setup?")
		admin := newPerson(t, base)
		admin.setUp(link)
		revoked := admin.generate(url.Values{"name": {"revoked"}, "mode": {"live"}})
		if status, body := admin.post("/settings/api/keys/"+admin.newestKey()+"/revoke", nil); status != http.StatusOK {
			t.Fatalf("revoking: %d %s", status, body)
		}
		kept := admin.generate(url.Values{"name": {"kept"}, "mode": {"live"}})
		use := func(times int) {
			for range times {
				if got, _ := answered(t, base+"/v1/costs", kept); got != http.StatusOK {
					t.Errorf("a key is answered %d", got)
				}
				if got, _ := answered(t, base+"/v1/costs", revoked); got != http.StatusUnauthorized {
					t.Errorf("a revoked key is answered %d", got)
				}
			}
		}
		beside := storetest.DB(t, db)
		saved := func() (uses, refusals, last int) {
			row := beside.QueryRowContext(t.Context(), `SELECT (SELECT coalesce(sum(requests), 0) FROM daily_uses),
				(SELECT coalesce(sum(requests), 0) FROM refusal_sources), (SELECT count(*) FROM last_uses)`)
			if err := row.Scan(&uses, &refusals, &last); err != nil {
				t.Fatal(err)
			}
			return uses, refusals, last
		}
		waitForUses := func(want int) {
			for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(50 * time.Millisecond) { // of which 30 are for a busy machine
				uses, _, _ := saved()
				if uses == want {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d of %d uses are saved", uses, want)
				}
			}
		}
		use(1)
		waitForUses(2)
		use(20)
		waitForUses(42)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("it was not killed")
		}
		if uses, refusals, last := saved(); uses != 42 || refusals != 21 || last != 2 {
			t.Errorf("killed, %d uses, %d refusals and %d last uses are saved", uses, refusals, last)
		}
	})
}
