package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// testSecret is a secret for programs under test.
const testSecret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// running is the program, serving inside this process.
type running struct {
	base  string // of its URLs
	setup string // the setup link, or ""
	log   *lockedBuffer

	stop context.CancelFunc
	exit chan int
}

// startServing runs "cicosts serve" with this environment on a port of its own until the test ends.
func startServing(t testing.TB, env map[string]string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	outRead, outWrite := io.Pipe()
	r := &running{log: &lockedBuffer{}, stop: cancel, exit: make(chan int, 1)}
	go func() {
		r.exit <- execute(ctx, program{
			args: append([]string{"serve", "--addr", "127.0.0.1:0"}, args...), in: strings.NewReader(""), out: outWrite, err: r.log,
			env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		})
		outWrite.Close()
	}()
	t.Cleanup(func() { r.shutDown(t) })
	lines := make(chan string, 1)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(outRead); s.Scan(); {
			lines <- s.Text()
		}
	}()
	r.base = "http://" + r.waitForAddr(t)
	patience := time.Minute
	if hasUsers(t, env["CICOSTS_DATABASE_URL"]) { // then there should be no link
		patience = 300 * time.Millisecond
	}
	select {
	case line := <-lines:
		r.setup = regexp.MustCompile(`http\S+`).FindString(line)
	case <-time.After(patience):
	}
	return r
}

func hasUsers(t testing.TB, database string) (has bool) {
	t.Helper()
	db := storetest.DB(t, database)
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT 1 FROM users)").Scan(&has); err != nil {
		t.Fatal(err)
	}
	return has
}

// listeningText is the record that it listens in the text format.
var listeningText = regexp.MustCompile(`msg=listening addr=(\S+)`)

func (r *running) waitForAddr(t testing.TB) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		for line := range strings.SplitSeq(r.log.String(), "\n") {
			var record struct{ Msg, Addr string }
			if json.Unmarshal([]byte(line), &record) == nil && record.Msg == "listening" {
				return record.Addr
			}
			if text := listeningText.FindStringSubmatch(line); text != nil {
				return text[1]
			}
		}
		select {
		case code := <-r.exit:
			t.Fatalf("serve ended with %d: %s", code, r.log)
		default:
		}
	}
	t.Fatalf("no record that it listens: %s", r.log)
	return ""
}

// shutDown ends the program as SIGTERM does, once.
func (r *running) shutDown(t testing.TB) {
	t.Helper()
	r.stop()
	select {
	case code, open := <-r.exit:
		if open && code != 0 {
			t.Errorf("serve ended with %d: %s", code, r.log)
		}
		if open {
			close(r.exit)
		}
	case <-time.After(time.Minute):
		t.Error("serve did not end")
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// person is somebody with a browser, so far as forms go.
type person struct {
	t      testing.TB
	base   string
	client *http.Client
}

func newPerson(t testing.TB, base string) *person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{t: t, base: base, client: &http.Client{Jar: jar}}
}

// setUp creates the first owner through the setup link.
func (p *person) setUp(link string) {
	p.t.Helper()
	u, err := url.Parse(link)
	if err != nil || link == "" {
		p.t.Fatalf("setup link %q: %v", link, err)
	}
	status, body := p.post("/setup", url.Values{
		"token": {u.Query().Get("token")}, "account": {"Acme"}, "email": {"ops@acme.example"}, "password": {"correct horse battery"},
	})
	if status != http.StatusOK {
		p.t.Fatalf("setup: %d %s", status, body)
	}
}

// post sends a form as a page of the site would, and follows the redirect.
func (p *person) post(path string, form url.Values) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return p.do(req)
}

func (p *person) get(path string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.do(req)
}

func (p *person) do(req *http.Request) (int, string) {
	p.t.Helper()
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

var (
	formTokenPattern = regexp.MustCompile(`name="form_token" value="([^"]+)"`)
	keyPattern       = regexp.MustCompile(`id="api-key"[^>]*value="(cic_[a-z]+_[0-9A-Za-z]+)"`)
	keyIDPattern     = regexp.MustCompile(`data-key-id="(key_[^"]+)"`)
)

// generate makes a key with this form, beside the hidden fields, and returns its text.
func (p *person) generate(form url.Values) string {
	p.t.Helper()
	_, page := p.get("/settings/api/new")
	token := formTokenPattern.FindStringSubmatch(page)
	if token == nil {
		p.t.Fatalf("no form: %s", page)
	}
	form.Set("form_token", token[1])
	status, body := p.post("/settings/api/keys", form)
	key := keyPattern.FindStringSubmatch(body)
	if status != http.StatusOK || key == nil {
		p.t.Fatalf("generating a key: %d %s", status, body)
	}
	return key[1]
}

// newestKey returns the id of the key on top of the list.
func (p *person) newestKey() string {
	p.t.Helper()
	_, page := p.get("/settings/api")
	id := keyIDPattern.FindStringSubmatch(page)
	if id == nil {
		p.t.Fatalf("no key in the list: %s", page)
	}
	return id[1]
}
