package main

import (
	"bufio"
	"encoding/json"
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
)

// child is "cicosts serve" as a process of its own, whose output the test reads
// or leaves unread.
type child struct {
	cmd      *exec.Cmd
	out, err *os.File // the ends to read of its standard output and error
	log      *bufio.Reader
}

// startChild starts a child that uses the database. It calls prepare with the
// pipe that becomes the child's standard output.
func startChild(t *testing.T, db string, prepare func(stdout *os.File)) *child {
	t.Helper()
	c := &child{cmd: exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSignals$")}
	c.cmd.Env = append(os.Environ(), serves+"="+db, "CICOSTS_SECRET="+testSecret, "CICOSTS_METRICS_ADDR=127.0.0.1:0")
	var stdout, stderr *os.File
	c.out, stdout = pipe(t)
	c.err, stderr = pipe(t)
	c.log = bufio.NewReader(c.err)
	prepare(stdout)
	c.cmd.Stdout, c.cmd.Stderr = stdout, stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() }) // it may have ended
	stdout.Close()
	stderr.Close()
	return c
}

func empty(*os.File) {}

// pipe returns the two ends of a pipe. Writes to it block, as they do for a
// process that gets it as its standard output.
func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

// fill returns a function that writes to a pipe until it is full.
func fill(t *testing.T) func(*os.File) {
	return func(pipe *os.File) {
		fd := int(pipe.Fd())
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{4096, 1} {
			err := error(nil)
			for err == nil {
				_, err = syscall.Write(fd, make([]byte, n))
			}
			if err != syscall.EAGAIN {
				t.Fatal(err)
			}
		}
		if err := syscall.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
	}
}

// addr reads the log until a record with this message and returns its address.
func (c *child) addr(t *testing.T, msg string) string {
	t.Helper()
	for {
		line, err := c.log.ReadBytes('\n')
		if err != nil {
			t.Fatalf("the log ends: %v", err)
		}
		var record struct{ Msg, Addr string }
		if json.Unmarshal(line, &record) == nil && record.Msg == msg {
			return record.Addr
		}
	}
}

// owner sets up the first owner through the link on standard output.
func (c *child) owner(t *testing.T) *person {
	t.Helper()
	line, err := bufio.NewReader(c.out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, link, _ := strings.Cut(strings.TrimSpace(line), "owner: ")
	base, _, _ := strings.Cut(link, "/setup?")
	p := newPerson(t, base)
	p.client.Timeout = time.Minute // rather than never
	p.setUp(link)
	return p
}

// terminate sends SIGTERM and wants the process to end with exit code 0.
func (c *child) terminate(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	overdue := time.AfterFunc(time.Minute, func() { _ = c.cmd.Process.Kill() })
	defer overdue.Stop()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// A log that is not read delays neither answers nor revocations nor shutdown.
func TestLogThatNobodyReads(t *testing.T) {
	c := startChild(t, newDatabase(t), empty)
	admin := c.owner(t)
	kept := admin.generate(url.Values{"name": {"kept"}, "mode": {"live"}})
	revoked := admin.generate(url.Values{"name": {"revoked"}, "mode": {"live"}})
	id := admin.newestKey()
	for range 1000 { // whose lines fill any pipe
		if status, _ := admin.get("/healthz"); status != http.StatusOK {
			t.Fatalf("/healthz: %d", status)
		}
	}
	if status, _ := answered(t, admin.base+"/v1/costs", kept); status != http.StatusOK {
		t.Errorf("a key is answered %d", status)
	}
	if status, body := admin.get("/settings/api"); status != http.StatusOK {
		t.Errorf("a page: %d %s", status, body)
	}
	if status, body := admin.post("/settings/api/keys/"+id+"/revoke", nil); status != http.StatusOK {
		t.Errorf("revoking: %d %s", status, body)
	}
	if status, _ := answered(t, admin.base+"/v1/costs", revoked); status != http.StatusUnauthorized {
		t.Errorf("the revoked key is answered %d", status)
	}
	c.terminate(t)
}

// A standard output that is not read does not delay shutdown either.
func TestSetupLinkThatNobodyReads(t *testing.T) {
	c := startChild(t, newDatabase(t), fill(t))
	addr := c.addr(t, "listening")
	go func() { _, _ = io.Copy(io.Discard, c.log) }()
	if status, _ := newPerson(t, "http://"+addr).get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	c.terminate(t)
}

// When the readers of the output end, the service goes on and counts the lines
// that it cannot write. SIGTERM still saves the use of keys.
func TestLogReaderThatEnds(t *testing.T) {
	db := newDatabase(t)
	c := startChild(t, db, empty)
	admin := c.owner(t)
	key := admin.generate(url.Values{"name": {"used"}, "mode": {"live"}})
	m := scraper{t, "http://" + c.addr(t, "metrics listening")}
	c.err.Close()
	c.out.Close()
	const uses = 7
	for range uses {
		if status, _ := answered(t, admin.base+"/v1/costs", key); status != http.StatusOK {
			t.Fatalf("a key is answered %d", status)
		}
	}
	waitUntil(t, "lines are dropped", func() bool {
		_, got := m.read()
		return got["cicosts_log_lines_dropped_total"] >= uses
	})
	c.terminate(t)
	if saved := count(t, db, "SELECT sum(requests) FROM daily_uses"); saved < uses {
		t.Errorf("%d of %d uses are saved", saved, uses)
	}
}

// stuck is a writer whose reader has stopped.
type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.release
	return len(p), nil
}

// A failing start ends even if its error message is not read.
func TestFailureThatNobodyReads(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := stuck{make(chan struct{})}
	defer close(s.release)
	ended := make(chan int, 1)
	go func() {
		ended <- execute(t.Context(), program{
			args: []string{"serve", "--addr", l.Addr().String(), "--database-url", newDatabase(t)}, env: lookup(nil), in: strings.NewReader(""), out: s, err: s,
		})
	}()
	select {
	case code := <-ended:
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(time.Minute):
		t.Fatal("it did not end")
	}
}
