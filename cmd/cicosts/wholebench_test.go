package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
	"cicosts/web/loadtest"
)

// benchKeys is how many keys the account of BenchmarkWhole has: a full page of
// the list.
const benchKeys = 50

// BenchmarkWhole runs the built program in a process of its own and asks GET
// /v1/key over loopback, with keys that work and with unknown ones, in turns.
// On PostgreSQL a bare Echo handler, in a process too, takes turns with them.
// It prints the rows of the README's table. Clients, servers and PostgreSQL
// share the machine; the log goes to a file.
func BenchmarkWhole(b *testing.B) {
	bin := buildProgram(b)
	for _, database := range []struct {
		name string
		url  func(testing.TB) string
	}{{"SQLite", storetest.SQLite}, {"PostgreSQL", storetest.Postgres}} {
		b.Run(database.name, func(b *testing.B) {
			url := database.url(b)
			p := startBuilt(b, bin, url)
			keys := p.setUp(b)
			way := func(name, addr string, status int, keys ...string) func() *loadtest.Way {
				return func() *loadtest.Way { return &loadtest.Way{Name: name, Addr: addr, Status: status, Keys: keys} }
			}
			compared := []func() *loadtest.Way{
				way("a key that works", p.addr, http.StatusOK, keys[0]),
				way("an unknown key", p.addr, http.StatusUnauthorized, mintKeys(1)...),
			}
			if database.name == "PostgreSQL" {
				compared = append(compared, way("a bare handler", startBare(b, url), http.StatusOK, keys[0]))
			}
			compared = append(compared,
				way(fmt.Sprintf("%d keys that work", benchKeys), p.addr, http.StatusOK, keys...),
				way(fmt.Sprintf("%d unknown keys", benchKeys), p.addr, http.StatusUnauthorized, mintKeys(benchKeys)...),
			)
			for b.Loop() {
				table := "\n| `GET /v1/key` on " + database.name + " | connections | requests a second | p50 | p99 | rate, against a key that works | p50, against it |\n|---|---|---|---|---|---|---|\n"
				for _, connections := range []int{1, 64} {
					var ways []*loadtest.Way
					for _, w := range compared {
						ways = append(ways, w())
					}
					loadtest.Turns(b, 15, connections, 150*time.Millisecond, ways...)
					one := ways[0]
					for _, w := range ways {
						p50 := loadtest.Percentile(w.Took, 50)
						table += fmt.Sprintf("| %s | %d | %.0f | %v | %v | %.2f | %.2f |\n", w.Name, connections, w.Rate(), rounded(p50),
							rounded(loadtest.Percentile(w.Took, 99)), one.Rate()/w.Rate(), float64(loadtest.Percentile(one.Took, 50))/float64(p50))
					}
					b.ReportMetric(one.Rate()/ways[1].Rate(), fmt.Sprintf("known/unknown-%d", connections))
				}
				fmt.Print(table)
				fmt.Printf("| a page of the list with %d keys | %d bytes |\n", benchKeys, p.listBytes(b))
			}
		})
	}
}

func rounded(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

func mintKeys(n int) (keys []string) {
	for range n {
		keys = append(keys, keytext.Mint(keytext.Live).Reveal())
	}
	return keys
}

// buildProgram builds the program as make build does and returns its path.
func buildProgram(b *testing.B) string {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "cicosts")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("building: %v\n%s", err, out)
	}
	return bin
}

// benchServer is a server process that ends with the benchmark.
type benchServer struct {
	addr   string
	out    *os.File // its standard output
	person *person
}

// startServer starts cmd, which must listen on addr, and waits until it
// answers.
func startServer(b *testing.B, addr string, cmd *exec.Cmd) *benchServer {
	b.Helper()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(b.TempDir(), name))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		return f
	}
	p := &benchServer{addr: addr, out: open("out")}
	log := open("log")
	cmd.Stdout, cmd.Stderr = p.out, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get("http://" + addr + "/healthz")
		if err == nil {
			resp.Body.Close()
			return p
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			b.Fatalf("no answer within a minute: %v\n%s", err, said)
		}
	}
}

// freeAddr returns a loopback address that is free.
func freeAddr(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func startBuilt(b *testing.B, bin, url string) *benchServer {
	b.Helper()
	addr := freeAddr(b)
	cmd := exec.CommandContext(b.Context(), bin, "serve", "--addr", addr, "--database-url", url)
	cmd.Env = []string{"CICOSTS_SECRET=" + testSecret}
	return startServer(b, addr, cmd)
}

// setUp creates the first owner and the keys, and returns their texts.
func (p *benchServer) setUp(b *testing.B) (keys []string) {
	b.Helper()
	var link string
	for deadline := time.Now().Add(time.Minute); link == "" && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		said, err := os.ReadFile(p.out.Name())
		if err != nil {
			b.Fatal(err)
		}
		if line, _, whole := strings.Cut(string(said), "\n"); whole {
			link = line[strings.Index(line, "http"):]
		}
	}
	p.person = newPerson(b, "http://"+p.addr)
	p.person.setUp(link)
	for i := range benchKeys {
		keys = append(keys, p.person.generate(url.Values{"name": {fmt.Sprintf("Grafana dashboard of team %d", i)}, "mode": {"live"}}))
	}
	return keys
}

// listBytes returns how many bytes a page of the list has on its way to a
// browser.
func (p *benchServer) listBytes(b *testing.B) int {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+p.addr+"/settings/api", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	resp, err := p.person.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("the list: %d, %v", resp.StatusCode, err)
	}
	return len(body)
}

// bareDatabase and bareAddr are the environment of the process that
// TestBareHandler is for.
const (
	bareDatabase = "CICOSTS_BENCH_BARE_DATABASE"
	bareAddr     = "CICOSTS_BENCH_BARE_ADDR"
)

// startBare starts this test program once more, as the bare handler.
func startBare(b *testing.B, database string) string {
	b.Helper()
	addr := freeAddr(b)
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^TestBareHandler$", "-test.timeout", "0")
	cmd.Env = append(os.Environ(), bareDatabase+"="+database, bareAddr+"="+addr)
	return startServer(b, addr, cmd).addr
}

// TestBareHandler is what the program is compared with, and no test: Echo and
// one SELECT through GORM for each request, without ids, log, metrics, time
// limits and a record of the use.
func TestBareHandler(t *testing.T) {
	database, addr := os.Getenv(bareDatabase), os.Getenv(bareAddr)
	if database == "" {
		t.Skip("only BenchmarkWhole runs this, in a process of its own")
	}
	db, err := gorm.Open(gormpostgres.Open(database), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(8)
	pool.SetMaxIdleConns(8)
	t.Fatal(newBare(t, db).Start(addr))
}

// bareKey is a row as the bare handler reads it and answers with it.
type bareKey struct {
	ID        string `json:"id"`
	AccountID string `json:"account_id"`
	Name      string `json:"name"`
	Mode      string `json:"mode"`
	CreatedAt int64  `json:"created_at"`
	ExpiresAt int64  `json:"expires_at"`
	RevokedAt int64  `json:"-"`
}

func newBare(t *testing.T, db *gorm.DB) *echo.Echo {
	secrets, err := parseSecrets(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	hasher := secrets[0].hasher()
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/healthz", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	e.GET("/v1/key", func(c echo.Context) error {
		secret, err := keytext.Parse(strings.TrimPrefix(c.Request().Header.Get("Authorization"), "Bearer "))
		if err != nil {
			return err
		}
		hash := hasher.Hash(secret)
		var key bareKey
		if err := db.WithContext(c.Request().Context()).Table("api_keys").Where("hash = ?", hash[:]).Take(&key).Error; err != nil {
			return err
		}
		return c.JSON(http.StatusOK, key)
	})
	return e
}
