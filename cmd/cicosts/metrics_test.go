package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
)

// scraper reads the metrics of a program.
type scraper struct {
	t   *testing.T
	url string
}

// metricsOf waits until the program says where its metrics are.
func metricsOf(t *testing.T, r *running) scraper {
	t.Helper()
	var record struct{ Msg, Addr string }
	waitUntil(t, "metrics are announced", func() bool {
		for line := range strings.SplitSeq(r.log.String(), "\n") {
			if json.Unmarshal([]byte(line), &record) == nil && record.Msg == "metrics listening" {
				return true
			}
		}
		return false
	})
	return scraper{t, "http://" + record.Addr}
}

func (s scraper) get(path string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return (&person{t: s.t, client: http.DefaultClient}).do(req)
}

// read returns every series with its value, after a look at the format.
func (s scraper) read() (text string, series map[string]float64) {
	s.t.Helper()
	status, text := s.get("/metrics")
	if status != http.StatusOK {
		s.t.Fatalf("/metrics: %d %s", status, text)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		s.t.Fatalf("the format: %v\n%s", err, text)
	}
	for _, p := range problems {
		s.t.Errorf("%s: %s", p.Metric, p.Text)
	}
	series = map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, found := cutLast(lines.Text(), " ")
		if !found || strings.HasPrefix(name, "#") {
			continue
		}
		if series[name], err = strconv.ParseFloat(value, 64); err != nil {
			s.t.Fatalf("%s: %v", lines.Text(), err)
		}
	}
	return text, series
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// want waits until the series have these values: what is counted after an answer may come after it.
func (s scraper) want(want map[string]float64) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		wrong := map[string]string{}
		_, got := s.read()
		for name, value := range want {
			if v, ok := got[name]; !ok || v != value {
				wrong[name] = fmt.Sprintf("%v (there: %t), want %v", v, ok, value)
			}
		}
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the metrics are %v", wrong)
		}
	}
}

// checked names the series of one outcome.
func checked(outcome string) string { return `cicosts_api_requests_total{outcome="` + outcome + `"}` }

// The metrics tell of every kind of request, show no key, and are read while the database is away.
func TestMetrics(t *testing.T) {
	cluster := storetest.NewCluster(t)
	env := map[string]string{"CICOSTS_DATABASE_URL": cluster.Empty(t), "CICOSTS_SECRET": testSecret}
	r := startServing(t, env, "--metrics-addr", "127.0.0.1:0")
	m := metricsOf(t, r)
	m.want(map[string]float64{
		checked("accepted"): 0, checked("forbidden"): 0, checked("expired"): 0, checked("revoked"): 0, checked("unknown"): 0,
		checked("malformed"): 0, checked("missing"): 0, checked("unavailable"): 0, checked("canceled"): 0,
		"cicosts_key_lookup_failures_total": 0, "cicosts_usage_dropped_total": 0, "cicosts_revocations_in_doubt": 0, `cicosts_usage_flushes_total{result="failed"}`: 0,
		`cicosts_http_requests_total{status="5xx",surface="pages"}`: 0,
	})

	admin := newPerson(t, r.base)
	admin.setUp(r.setup)
	key := admin.generate(url.Values{"name": {"a"}, "mode": {"live"}})
	narrow := admin.generate(url.Values{"name": {"b"}, "mode": {"live"}, "scoped": {"1"}, "permissions": {"alerts:read"}})
	unknown := keytext.Mint(keytext.Live).Reveal()
	for _, text := range []string{key, key, key, unknown, unknown, "x"} {
		answered(t, r.base+"/v1/costs", text)
	}
	answered(t, r.base+"/v1/costs", narrow)
	admin.get("/v1/key")
	if status, _ := admin.get("/metrics"); status != http.StatusNotFound {
		t.Errorf("/metrics on the public port: %d", status)
	}
	m.want(map[string]float64{
		checked("accepted"): 3, checked("forbidden"): 1, checked("unknown"): 2, checked("malformed"): 1, checked("missing"): 1,
		`cicosts_http_requests_total{status="2xx",surface="api"}`: 3, `cicosts_http_requests_total{status="4xx",surface="api"}`: 5,
	})
	waitUntil(t, "uses are saved", func() bool {
		_, got := m.read()
		return got[`cicosts_usage_flushes_total{result="ok"}`] > 0 && got["cicosts_usage_rows_saved_total"] > 0
	})
	text, got := m.read()
	readme := readRoot(t, "README.md")
	for _, family := range regexp.MustCompile(`(?m)^# TYPE (cicosts_\w+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(readme, "\n| `"+family[1]) {
			t.Errorf("the README has no row of %s", family[1])
		}
	}
	for name, least := range map[string]float64{
		`cicosts_http_request_duration_seconds_count{surface="api"}`: 8, "cicosts_key_lookup_batch_size_count": 6, "cicosts_key_lookup_batch_size_sum": 6,
		"cicosts_key_lookup_duration_seconds_count": 6, "go_goroutines": 1,
	} {
		if got[name] < least {
			t.Errorf("%s is %v, want %v or more", name, got[name], least)
		}
	}
	for _, secret := range []string{key, unknown, "cic_", admin.newestKey(), "Acme", "acme.example"} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics show %q", secret)
		}
	}
	for _, path := range []string{"/", "/healthz", "/v1/key", "/debug/pprof/", "/metrics/x"} {
		if status, _ := m.get(path); status != http.StatusNotFound {
			t.Errorf("%s beside the metrics: %d", path, status)
		}
	}

	cluster.Stop(t)
	if status, _ := callWith(t, r.base+"/v1/key", key); status != http.StatusServiceUnavailable {
		t.Fatalf("without a database: %d", status)
	}
	waitUntil(t, "the outage is counted", func() bool {
		_, got := m.read()
		return got[checked("unavailable")] > 0 && got["cicosts_key_lookup_failures_total"] > 0
	})
	cluster.Start(t)
	r.shutDown(t)
	if c, err := net.Dial("tcp", strings.TrimPrefix(m.url, "http://")); err == nil {
		c.Close()
		t.Error("metrics are served after the program has ended")
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Without an address there is no listener, and one that is taken ends the start before there is a database.
func TestMetricsAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	db := newDatabase(t)
	taken := l.Addr().String()
	runProgram(t, "", nil, "serve", "--addr", "127.0.0.1:0", "--database-url", db, "--metrics-addr", taken).want(t, 1, "metrics", taken, "address already in use")
	if fileExists(strings.TrimPrefix(db, "sqlite:")) {
		t.Error("it has made a database all the same")
	}
	r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db})
	r.shutDown(t)
	if strings.Contains(r.log.String(), "metrics") {
		t.Errorf("it speaks of metrics: %s", r.log)
	}
}

// failing is a database that does not answer.
type failing struct{}

var errFailing = errors.New("away")

func (failing) SaveUse(context.Context, models.Uses) (int64, error) { return 0, errFailing }

func (failing) KeysByHash(context.Context, []keytext.Hash, bool, []models.KeyState) ([]models.KeyState, error) {
	return nil, errFailing
}

func TestMetricsOfFailures(t *testing.T) {
	m := newMetrics()
	m.countDropped(func() int64 { return 7 })
	m.countInDoubt(func() int { return 2 })
	if _, err := m.source(failing{}).KeysByHash(t.Context(), make([]keytext.Hash, 3), false, nil); !errors.Is(err, errFailing) {
		t.Errorf("looking up: %v", err)
	}
	if _, err := m.sink(failing{}).SaveUse(t.Context(), models.Uses{Newest: make([]models.LastUse, 2)}); !errors.Is(err, errFailing) {
		t.Errorf("saving: %v", err)
	}
	m.Answered(0, 101, time.Second) // no class of its own
	server, err := m.serve("127.0.0.1:0", (&call{program: program{err: io.Discard}}).logger())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	scraper{t, "http://" + server.Addr}.want(map[string]float64{
		"cicosts_usage_dropped_total": 7, "cicosts_revocations_in_doubt": 2, "cicosts_key_lookup_failures_total": 1,
		"cicosts_key_lookup_batch_size_sum": 3, `cicosts_usage_flushes_total{result="failed"}`: 1, "cicosts_usage_rows_saved_total": 0,
	})
}

// Counting a request allocates nothing.
func TestMetricsAllocateNothing(t *testing.T) {
	m := newMetrics()
	if n := testing.AllocsPerRun(100, func() { m.Checked(0); m.Answered(0, 200, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
