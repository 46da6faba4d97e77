package revocation

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

// A site is some replicas on one database, an admin who is signed in, and a key that is never revoked.
type site struct {
	program  string
	database string             // its URL, for commands
	cluster  *storetest.Cluster // where it is; nil for SQLite
	paths    []string           // URLs by which each replica reaches it; none: two replicas reach it directly
	standby  *storetest.Cluster // of cluster, or nil
	proxy    *proxy             // on the path of the second replica, or nil
	env      []string           // more environment for the replicas
	replicas []*replica
	admin    *admin
	kept     string // the key's text
	sum      *summary
}

// open starts the replicas.
func (s *site) open(t *testing.T) {
	t.Helper()
	if len(s.paths) == 0 {
		s.paths = []string{s.database, s.database}
	}
	for range s.paths {
		s.join(t)
	}
	s.admin = newAdmin(t, s.replicas[0])
	s.kept, _ = s.admin.generate(t, s.replicas[0])
}

// join starts one more replica and returns its number. It reaches the database as the one did whose number it has, or the
// last one.
func (s *site) join(t *testing.T) int {
	t.Helper()
	n := len(s.replicas)
	env := append(environment(s.paths[min(n, len(s.paths)-1)]), s.env...)
	s.replicas = append(s.replicas, startReplica(t, s.program, env))
	return n
}

func environment(database string) []string {
	return []string{"CICOSTS_DATABASE_URL=" + database, "CICOSTS_SECRET=" + testSecret, "CICOSTS_LOG_FORMAT=json"}
}

// An admin uses the pages, on whichever replica.
type admin struct{ client *http.Client }

// newAdmin becomes the first owner through a replica's setup link.
func newAdmin(t *testing.T, r *replica) *admin {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &admin{&http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true}, // a replica may have gone since
		Timeout:       patience,
	}}
	link, err := url.Parse(r.setupLink(t))
	if err != nil {
		t.Fatal(err)
	}
	status, body := a.submit(t, r, "/setup", url.Values{
		"token": {link.Query().Get("token")}, "account": {"Acme"}, "email": {"ops@acme.example"}, "password": {"correct horse battery"},
	})
	if status != http.StatusSeeOther {
		t.Fatalf("setup: %d %s", status, body)
	}
	return a
}

// submit sends a form as a page of the site would. It follows no redirect.
func (a *admin) submit(t *testing.T, r *replica, path string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.addr+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return a.do(t, req)
}

func (a *admin) do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := a.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

var (
	formTokenPattern = regexp.MustCompile(`name="form_token" value="([^"]+)"`)
	keyIDPattern     = regexp.MustCompile(`data-key-id="(key_[^"]+)"`)
	keyPattern       = regexp.MustCompile(`id="api-key"[^>]*value="(cic_live_[0-9A-Za-z]+)"`)
)

// generate makes a key on the page and returns its text and its id. It begins anew where the database is away.
func (a *admin) generate(t *testing.T, r *replica) (text, id string) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		token := a.find(t, r, "/settings/api/new", formTokenPattern)
		status, body := a.submit(t, r, "/settings/api/keys", url.Values{"form_token": {token}, "name": {"Grafana"}, "mode": {"live"}})
		if status == http.StatusServiceUnavailable && time.Now().Before(end) {
			time.Sleep(pause)
			continue
		}
		key := keyPattern.FindStringSubmatch(body)
		if status != http.StatusOK || key == nil {
			t.Fatalf("generating a key: %d %s", status, body)
		}
		return key[1], a.find(t, r, "/settings/api", keyIDPattern) // the newest is on top
	}
}

// find returns what a pattern finds first on a page.
func (a *admin) find(t *testing.T, r *replica, path string, pattern *regexp.Regexp) string {
	t.Helper()
	body := a.page(t, r, path)
	m := pattern.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("%s has no %v: %s", path, pattern, body)
	}
	return m[1]
}

// page reads a page, again while the database is away.
func (a *admin) page(t *testing.T, r *replica, path string) string {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		status, body := a.do(t, req)
		if status == http.StatusServiceUnavailable && time.Now().Before(end) {
			time.Sleep(pause)
			continue
		}
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		return body
	}
}

// A way asks once for the revocation of the driver's key, and returns when the first byte of the answer arrived and
// whether it confirms the revocation.
type way func(ctx context.Context, d *driver) (time.Duration, bool)

// byPage revokes on a replica's page.
func byPage(replica int) way {
	return func(ctx context.Context, d *driver) (time.Duration, bool) {
		page := "/settings/api/keys/" + d.id
		return d.call(ctx, http.MethodPost, replica, page+"/revoke", "", func(resp *http.Response) bool {
			return resp.StatusCode == http.StatusSeeOther && strings.HasPrefix(resp.Header.Get("Location"), page)
		})
	}
}

// byKey has the key revoke itself.
func byKey(replica int) way {
	return func(ctx context.Context, d *driver) (time.Duration, bool) {
		return d.call(ctx, http.MethodDelete, replica, "/v1/key", "Bearer "+d.key, func(resp *http.Response) bool {
			return resp.StatusCode == http.StatusNoContent
		})
	}
}

// byCommand revokes with "cicosts key revoke", on a path of its own to the database.
func byCommand(ctx context.Context, d *driver) (time.Duration, bool) {
	cmd := exec.CommandContext(ctx, d.site.program, "key", "revoke", d.id)
	cmd.Env = environment(d.site.database)
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Error(err)
		return 0, false
	}
	if err := cmd.Start(); err != nil {
		d.t.Error(err)
		return 0, false
	}
	_, none := io.ReadFull(out, make([]byte, 1))
	at := d.now()
	_, _ = io.Copy(io.Discard, out) // what it says further is of no interest
	return at, cmd.Wait() == nil && none == nil
}

func (d *driver) call(ctx context.Context, method string, replica int, path, authorization string, confirms func(*http.Response) bool) (at time.Duration, ok bool) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { at = d.now() }})
	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.site.replicas[replica].addr+path, nil)
	if err != nil {
		d.t.Error(err)
		return 0, false
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := d.site.admin.client.Do(req)
	if err != nil {
		return 0, false // a fault may break this connection too
	}
	resp.Body.Close()
	return at, confirms(resp)
}

// revoke revokes the key, again and again until that is confirmed. The later ways are for when one has no answer that
// is certain: a key whose own request is in doubt may not be able to ask again.
func (d *driver) revoke(ways ...way) {
	d.t.Helper()
	d.revoking(ways...)()
}

// revoking begins to revoke the key and returns what waits for the confirmation.
func (d *driver) revoking(ways ...way) (wait func()) {
	d.mu.Lock()
	d.rec.asked = d.now()
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*patience)
	done := make(chan bool, 1)
	go func() {
		defer cancel()
		for try := 0; ctx.Err() == nil; try++ {
			if at, ok := ways[min(try, len(ways)-1)](ctx, d); ok {
				d.mu.Lock()
				d.rec.confirmed = at
				d.mu.Unlock()
				done <- true
				return
			}
			d.sleep(4 * pause)
		}
		done <- false
	}()
	return func() {
		d.t.Helper()
		if !<-done {
			d.t.Fatal("the revocation is never confirmed")
		}
	}
}
