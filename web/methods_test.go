package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models/store/storetest"
	"cicosts/static"
)

// ownPaths are addresses outside the route tables.
var ownPaths = []string{"/healthz", "/readyz", static.CSS.URL}

func TestHeadAnswersAsGetWithoutABody(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	secret, key := storetest.MustKey(t, s.st, owner)
	paths := append([]string{"/nowhere", "/settings/api/keys/key_x"}, ownPaths...)
	for _, r := range allPages() {
		if r.method == http.MethodGet {
			paths = append(paths, strings.ReplaceAll(r.path, ":id", key.ID))
		}
	}
	for _, r := range allEndpoints() {
		if r.method == http.MethodGet {
			paths = append(paths, r.path)
		}
	}
	for _, path := range paths {
		bearer := []string{"Authorization", "Bearer " + secret.Reveal()}
		get, head := b.get(path, bearer...), b.send(http.MethodHead, path, "", bearer...)
		if head.status != get.status || head.body != "" {
			t.Errorf("HEAD %s: %d with %d bytes, GET has %d", path, head.status, len(head.body), get.status)
		}
		for _, a := range []*answer{get, head} {
			for _, h := range []string{"X-Request-Id", "Date", "Content-Length", "Transfer-Encoding", "Connection"} {
				a.header.Del(h)
			}
		}
		if diff := cmp.Diff(get.header, head.header); diff != "" {
			t.Errorf("%s (-GET +HEAD):\n%s", path, diff)
		}
	}
	b.send(http.MethodHead, "/logout", "").want(http.StatusMethodNotAllowed)
}

func TestPagesRefuseOtherMethods(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	answers := map[string]map[string]bool{}
	for _, r := range allPages() {
		if answers[r.path] == nil {
			answers[r.path] = map[string]bool{}
		}
		answers[r.path][r.method] = true
	}
	for _, path := range ownPaths {
		answers[path] = map[string]bool{"GET": true}
	}
	for path, methods := range answers {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "post"} {
			if methods[method] {
				continue
			}
			a := b.send(method, strings.ReplaceAll(path, ":id", "key_x"), "", "Sec-Fetch-Site", "same-origin")
			if a.status != http.StatusMethodNotAllowed {
				t.Errorf("%s: %d", a.asked, a.status)
			}
			allow := strings.Split(a.header.Get("Allow"), ", ")
			for _, m := range []string{"GET", "POST", "HEAD", "PUT", "DELETE"} {
				want := methods[m] || m == "HEAD" && methods["GET"]
				if got := strings.Contains(" "+strings.Join(allow, " ")+" ", " "+m+" "); got != want {
					t.Errorf("%s: Allow %q", a.asked, allow)
				}
			}
		}
	}
}

// exchange sends bytes as they are and returns the status of the answer.
func (s *site) exchange(raw string) (int, string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.address, "http://"))
	s.must(err)
	defer conn.Close()
	s.must(conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, raw)
	s.must(err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	s.must(err)
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body) // as far as it came
	return res.StatusCode, string(body)
}

func TestStrangeRequestLines(t *testing.T) {
	s := sqliteSite(t)
	for line, want := range map[string]int{
		"CONNECT /login HTTP/1.1":                       405,
		"CONNECT evil.example:443 HTTP/1.1":             404,
		"TRACE /v1/key HTTP/1.1":                        405,
		"GET http://evil.example/login HTTP/1.1":        200,
		"GET http://evil.example/settings/api HTTP/1.1": 303,
		"GET //evil.example/settings/api HTTP/1.1":      404,
		"GET /settings/api/keys/%00 HTTP/1.1":           404,
		"GET /settings/api/keys/..%2f..%2fnew HTTP/1.1": 303,
		"GET /static/../routes.go HTTP/1.1":             404,
		"GET /static/%2e%2e/web.go HTTP/1.1":            404,
		"GET /debug/pprof/ HTTP/1.1":                    404,
		"GET /metrics HTTP/1.1":                         404,
		"OPTIONS * HTTP/1.1":                            200,
	} {
		if got, body := s.exchange(line + "\r\nHost: cicosts.example\r\nConnection: close\r\n\r\n"); got != want {
			t.Errorf("%s: %d, want %d\n%s", line, got, want, body)
		}
	}
}

func TestLargeBodies(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	const limit = 64 << 10
	for _, r := range allPages() {
		if r.method != http.MethodPost || r.path == "/logout" {
			continue
		}
		path := strings.ReplaceAll(r.path, ":id", "key_x")
		send := func(size int, contentType string) *answer {
			body := "name=" + strings.Repeat("a", size-len("name="))
			if strings.HasPrefix(contentType, "multipart/") {
				head, tail := "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n", "\r\n--x--\r\n"
				body = head + strings.Repeat("a", size-len(head)-len(tail)) + tail
			}
			return b.send("POST", path, body, "Content-Type", contentType, "Sec-Fetch-Site", "same-origin")
		}
		for _, contentType := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
			if a := send(limit, contentType); a.status == http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %d for 64 KiB of %s", a.asked, a.status, contentType)
			}
			if a := send(limit+1, contentType); a.status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %d for a byte more than 64 KiB of %s", a.asked, a.status, contentType)
			}
		}
	}
	// Nor may a body be sent in chunks whose sum is not known before.
	status, _ := s.exchange("POST /login HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
		"Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", 1024, strings.Repeat("a", 1024)), 65) + "0\r\n\r\n")
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("chunks: %d", status)
	}
}

// TestGETWritesNothing asks for everything that can be asked for without leave to change something.
func TestGETWritesNothing(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		secret, key := storetest.MustKey(t, s.st, owner)
		s.must(s.st.AddSetupToken(t.Context(), []byte("hash")))
		before := s.dump()
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			for _, who := range []*browser{b, s.browser()} {
				for _, r := range allPages() {
					path := strings.ReplaceAll(r.path, ":id", key.ID)
					who.send(method, path, "")
					who.send(method, path+"?status=all&q=key&like="+key.ID+"&preset=full&token=x&next=/&revoke=1&_method=POST", "", "HX-Request", "true")
				}
			}
			for _, r := range allEndpoints() {
				s.browser().send(method, r.path, "", "Authorization", "Bearer "+secret.Reveal(), "X-HTTP-Method-Override", "DELETE")
			}
		}
		s.wantUnchanged(before)
		b.get("/settings/api").want(http.StatusOK)
	})
}
