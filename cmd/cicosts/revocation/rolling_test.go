package revocation

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
)

const (
	restarts      = 20
	fewRestarts   = 2 // in the short form: each replica once
	rollingLoad   = 24
	rollingPause  = 2 * time.Millisecond // at most, between an answer and the next request
	leastAnswered = 100                  // requests before each restart
)

// TestRollingRestarts restarts two replicas in turn behind Caddy, as the README
// sets it up, under load with requests that Caddy does not repeat. None of them
// may be answered 502.
func TestRollingRestarts(t *testing.T) {
	if testing.Short() {
		t.Skip("driving replicas is not short")
	}
	t.Parallel()
	caddy := findCaddy(t)
	env := environment(storetest.Postgres(t))
	program := build(t, nil)
	addrs := []string{freeAddr(t), freeAddr(t)}
	var replicas []*replica
	for _, addr := range addrs {
		replicas = append(replicas, startReplica(t, program, env, "--addr", addr))
	}
	load := startLoad(t, startCaddy(t, caddy, addrs))
	load.await(t, replicas[0])
	load.await(t, replicas[1])
	n := fewRestarts
	if *long {
		n = restarts
	}
	for i := range n {
		which := i % len(addrs)
		replicas[which].signal(t, syscall.SIGTERM)
		select {
		case <-replicas[which].ended:
		case <-time.After(patience):
			t.Fatal("a replica does not stop")
		}
		if code := replicas[which].cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("a replica ended with %d:\n%s", code, replicas[which].unusual())
		}
		replicas[which] = startReplica(t, program, env, "--addr", addrs[which])
		load.await(t, replicas[which])
	}
	load.end()
	t.Logf("%d restarts, %d requests", n, load.answered.Load())
}

// findCaddy returns the path of Caddy.
func findCaddy(t *testing.T) string {
	t.Helper()
	bin, err := exec.LookPath("caddy")
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip("Caddy is not installed: apt-get install caddy, or run make test as root")
		}
		t.Fatal("Caddy is not installed")
	}
	return bin
}

// freeAddr returns an address to listen on, again after a restart: its port is
// below those that systems give to connections.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// startCaddy starts Caddy with the README's Caddyfile, before replicas at these
// addresses, and returns its URL.
func startCaddy(t *testing.T, bin string, replicas []string) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(moduleRoot, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)\n```\n(cicosts\\.example \\{.*?\n\\}\n)```\n").FindSubmatch(readme)
	if m == nil {
		t.Fatal("the README has no Caddyfile")
	}
	url := "http://" + freeAddr(t)
	text := "{\n\tadmin off\n}\n" + string(m[1])
	for old, changed := range map[string]string{
		"cicosts.example": url, "10.0.0.11:8080": replicas[0], "10.0.0.12:8080": replicas[1],
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("the README's Caddyfile does not name %s once", old)
		}
		text = strings.Replace(text, old, changed, 1)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "run", "--config", config, "--adapter", "caddyfile")
	cmd.Env = []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	log := filepath.Join(dir, "log")
	p := start(t, cmd, log)
	t.Cleanup(func() {
		if out, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("Caddy logged last:\n%s", out[max(0, len(out)-4000):])
		}
	})
	waitFor(t, "Caddy passes requests on", func() error {
		select {
		case <-p.ended:
			out, _ := os.ReadFile(log)
			t.Fatalf("Caddy ended: %s", out)
		default:
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	})
	return url
}

// rolling is a load of requests through Caddy.
type rolling struct {
	t        *testing.T
	url      string
	client   *http.Client
	cancel   context.CancelFunc
	clients  sync.WaitGroup
	answered atomic.Int64
}

// startLoad begins to send requests, until end or the end of the test.
func startLoad(t *testing.T, url string) *rolling {
	ctx, cancel := context.WithCancel(context.Background())
	l := &rolling{t: t, url: url, cancel: cancel, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: rollingLoad}, Timeout: patience,
	}}
	for range rollingLoad {
		l.clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.ask(n)
				time.Sleep(rand.N(rollingPause))
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *rolling) end() {
	l.cancel()
	l.clients.Wait()
}

// ask sends a request that changes something, so that Caddy sends it once.
func (l *rolling) ask(n int) {
	method, want := http.MethodDelete, http.StatusUnauthorized
	if n%2 == 1 {
		method, want = http.MethodPost, http.StatusMethodNotAllowed
	}
	// With a context of its own: it is answered also as the load ends.
	req, err := http.NewRequestWithContext(context.Background(), method, l.url+"/v1/key", strings.NewReader("{}"))
	if err != nil {
		l.t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+keytext.Mint(keytext.Live).Reveal())
	resp, err := l.client.Do(req)
	if err != nil {
		l.t.Errorf("%s: %v", method, err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	l.answered.Add(1)
	// On a busy machine 503 breaks no promise.
	if err != nil || resp.StatusCode != want && resp.StatusCode != http.StatusServiceUnavailable {
		l.t.Errorf("%s is answered %s %s, %v", method, resp.Status, body, err)
	}
}

// await waits until a replica has had some of the requests, and Caddy's probe.
func (l *rolling) await(t *testing.T, r *replica) {
	t.Helper()
	waitFor(t, "the replica gets requests", func() error {
		out, err := os.ReadFile(r.log)
		n, probes := bytes.Count(out, []byte(`"route":"/v1/key"`)), bytes.Count(out, []byte(`"route":"/readyz"`))
		if err == nil && (n < leastAnswered || probes == 0) {
			err = fmt.Errorf("it had %d and %d probes", n, probes)
		}
		return err
	})
}
