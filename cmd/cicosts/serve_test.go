package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

// The record that it listens comes first and has the port that was picked, then a plain line with the link.
func TestServeAnnouncesItself(t *testing.T) {
	for _, base := range []string{"", "https://cicosts.example"} {
		both, db := &lockedBuffer{}, newDatabase(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		go func() {
			ended <- execute(ctx, program{
				args: []string{"serve", "--addr", "127.0.0.1:0", "--database-url", db},
				env:  lookup([]string{"CICOSTS_BASE_URL", base}), in: strings.NewReader(""), out: both, err: both,
			})
		}()
		waitUntil(t, "the link is printed", func() bool { return strings.Contains(both.String(), "/setup?token=") })
		lines := strings.Split(both.String(), "\n")
		if !strings.Contains(lines[0], `"msg":"listening","addr":"127.0.0.1:`) || strings.Contains(lines[0], `:0"`) {
			t.Errorf("first it says %s", lines[0])
		}
		want := base
		if want == "" {
			_, rest, _ := strings.Cut(lines[0], `"addr":"`)
			addr, _, _ := strings.Cut(rest, `"`)
			want = "http://" + addr
		}
		if link, ok := strings.CutPrefix(lines[1], "Create the first owner: "+want+"/setup?token="); !ok || len(link) < 26 || strings.ContainsAny(link, " \"&") {
			t.Errorf("then it says %s, want a link to %s", lines[1], want)
		}
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d: %s", code, both)
		}
	}
}

// Each start on a database without users mints a link; all are good until one is used, and then no start mints any.
func TestServeSetupLinks(t *testing.T) {
	env := map[string]string{"CICOSTS_DATABASE_URL": storetest.Postgres(t), "CICOSTS_SECRET": testSecret}
	first, second := startServing(t, env), startServing(t, env)
	if first.setup == "" || second.setup == "" || first.setup == second.setup {
		t.Fatalf("links %q and %q", first.setup, second.setup)
	}
	admin := newPerson(t, second.base)
	admin.setUp(first.setup) // the first's token on the second
	for _, link := range []string{first.setup, second.setup} {
		u, err := url.Parse(link)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*running{first, second} {
			if status, _ := newPerson(t, r.base).get(u.RequestURI()); status != http.StatusForbidden {
				t.Errorf("a used link is answered %d", status)
			}
		}
	}
	if third := startServing(t, env); third.setup != "" {
		t.Errorf("a start on a database with users prints %q", third.setup)
	}
	for _, r := range []*running{first, second} {
		for _, link := range []string{first.setup, second.setup} {
			if _, token, _ := strings.Cut(link, "token="); strings.Contains(r.log.String(), token) {
				t.Error("the log has a token")
			}
		}
	}
}

func TestServeAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	db := newDatabase(t)
	runProgram(t, "", nil, "serve", "--addr", l.Addr().String(), "--database-url", db).want(t, 1, l.Addr().String(), "address already in use; choose another address with CICOSTS_ADDR or --addr")
	runProgram(t, "", nil, "serve", "--addr", "127.0.0.1:0", "--metrics-addr", l.Addr().String(), "--database-url", db).want(t, 1, "address already in use; choose another address with CICOSTS_METRICS_ADDR or --metrics-addr")
	if _, err := os.Stat(strings.TrimPrefix(db, "sqlite:")); !os.IsNotExist(err) {
		t.Error("it has made a database all the same")
	}
}

func TestServeWithoutADatabase(t *testing.T) {
	env := []string{"CICOSTS_SECRET", testSecret, "CICOSTS_DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d?connect_timeout=2"}
	r := runProgram(t, "", env, "serve", "--addr", "127.0.0.1:0")
	r.want(t, 1, "127.0.0.1:1")
	if strings.Contains(r.err, "hunter2") {
		t.Errorf("it shows the password: %s", r.err)
	}
	folder := t.TempDir()
	runProgram(t, "", nil, "serve", "--addr", "127.0.0.1:0", "--database-url", "sqlite:"+folder).want(t, 1, folder)
	file := write(t, "not a database", strings.Repeat("not a database ", 100))
	runProgram(t, "", nil, "serve", "--addr", "127.0.0.1:0", "--database-url", "sqlite:"+file).want(t, 1, "not a database")
}

// A request that runs when the program is told to stop is answered; what was counted is saved; then it ends with 0.
func TestServeDrains(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, db string) {
		r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET": testSecret})
		admin := newPerson(t, r.base)
		admin.setUp(r.setup)
		key := admin.generate(url.Values{"name": {"used"}, "mode": {"live"}})
		for range 3 {
			answered(t, r.base+"/v1/costs", key)
		}
		http.DefaultClient.CloseIdleConnections()

		addr := strings.TrimPrefix(r.base, "http://")
		slow, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		const form = "email=ops%40acme.example&password=wrong+horse+battery"
		fmt.Fprintf(slow, "POST /login HTTP/1.1\r\nHost: %s\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", addr, len(form))
		answers := bufio.NewReader(slow)
		// Sent when the body is first read, so it shows that the request is being worked on.
		if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
			t.Fatalf("asked to go on: %q, %v", line, err)
		}
		if _, err := answers.ReadString('\n'); err != nil { // the empty line behind it
			t.Fatal(err)
		}
		began := time.Now()
		r.stop()
		waitUntil(t, "it has stopped listening", func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err != nil
		})
		select {
		case code := <-r.exit:
			t.Fatalf("it ended with %d while a request was running", code)
		default:
		}
		if _, err := io.WriteString(slow, form); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(answers, nil)
		if err != nil || res.StatusCode != http.StatusUnprocessableEntity {
			t.Fatalf("the running request: %v, %v", res, err)
		}
		r.shutDown(t) // wants exit code 0
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("the end took %v", took)
		}
		var uses, last int
		row := storetest.DB(t, db).QueryRowContext(t.Context(), "SELECT (SELECT sum(requests) FROM daily_uses), (SELECT count(*) FROM last_uses)")
		if err := row.Scan(&uses, &last); err != nil || uses != 3 || last != 1 {
			t.Errorf("%d uses and %d last uses are saved, %v", uses, last, err)
		}
	})
}

// serves is the variable with the database of a process that TestSignals is to be.
const serves = "TEST_SERVES"

// TestSignals runs this test again as a process of its own, which serves, and sends it what operators send.
func TestSignals(t *testing.T) {
	if db := os.Getenv(serves); db != "" {
		os.Exit(run([]string{"serve", "--addr", "127.0.0.1:0", "--database-url", db}))
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), serves+"="+newDatabase(t))
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n') // the link, so it serves
		if err != nil {
			t.Fatalf("%v after %q", err, line)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %v: %v, %s", signal, err, errs.String())
		}
	}
}

func TestBaseURL(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct{ addr, base, want string }{
		{"127.0.0.1:8080", "", "http://localhost:8080"},
		{"127.0.0.1:0", "", "http://" + l.Addr().String()},
		{"127.0.0.1:8080", "https://cicosts.example", "https://cicosts.example"},
	} {
		c := call{settings: settings{addr: tt.addr, baseURL: tt.base}}
		if got := c.baseURL(l); got != tt.want {
			t.Errorf("%s and %q: %s, want %s", tt.addr, tt.base, got, tt.want)
		}
	}
}
