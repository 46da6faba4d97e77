package web

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

// halfClosed sends a request and closes the connection in that direction, as some clients and proxies do, which cancels
// the request's context; then it reads the answer.
func (s *site) halfClosed(method, path, header, body string) int {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.address, "http://"))
	s.must(err)
	defer conn.Close()
	s.must(conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", method, path, header, len(body), body)
	s.must(err)
	s.must(conn.(*net.TCPConn).CloseWrite())
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	s.must(err)
	resp.Body.Close()
	return resp.StatusCode
}

// A client that seems to have gone may still read: it is never told 200 for what was not done.
func TestClientThatSeemsGone(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		secret, key := storetest.MustKey(t, s.st, owner)
		cookie := "Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\nCookie: "
		for _, c := range b.cookies() {
			cookie += c.Name + "=" + c.Value + "; "
		}
		for range 20 {
			if got := s.halfClosed("GET", "/settings/api/keys/key_missing", cookie+"\r\n", ""); got == http.StatusOK {
				t.Error("200 for a missing key's page")
			}
			if got := s.halfClosed("POST", "/settings/api/keys", cookie+"\r\n", url.Values{"name": {""}}.Encode()); got == http.StatusOK {
				t.Error("200 for a form with a mistake")
			}
		}
		got := s.halfClosed("POST", "/settings/api/keys/"+key.ID+"/revoke", cookie+"\r\n", "")
		k, err := s.st.Key(t.Context(), owner.AccountID, key.ID)
		if err != nil || got < 400 && k.RevokedAt.IsZero() { // after 503 nobody knows
			t.Errorf("revoking: %d, revoked at %v, %v", got, k.RevokedAt.Time(), err)
		}
		b.post("/settings/api/keys/"+key.ID+"/revoke", nil).want(http.StatusSeeOther)
		for range 40 {
			for _, path := range []string{"/v1/key", "/v1/costs"} {
				if got := s.halfClosed("GET", path, "Authorization: Bearer "+secret.Reveal()+"\r\n", ""); got != 401 && got != 503 {
					t.Errorf("%s with a revoked key: %d", path, got)
				}
			}
		}
	}, impatient)
}

// What waits for the database without end, as for a lock or a frozen backend, is answered in time.
func TestFrozenDatabase(t *testing.T) {
	url := storetest.Postgres(t)
	s := newSite(t, url, impatient)
	b, owner := s.owner()
	secret, _ := storetest.MustKey(t, s.st, owner)
	b.get("/settings/api").want(http.StatusOK)
	lock, err := storetest.DB(t, url).BeginTx(t.Context(), nil)
	mustBeNil(t, err)
	defer lock.Rollback()
	// Pages and GET /v1/key read these; looking a key up does not.
	_, err = lock.Exec("LOCK TABLE accounts, users IN ACCESS EXCLUSIVE MODE")
	mustBeNil(t, err)
	page := make(chan *answer)
	go func() {
		a, _ := b.trySend("GET", "/settings/api", "")
		page <- a
	}()
	asked := time.Now()
	s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusServiceUnavailable)
	if took := time.Since(asked); took > requestTimeout { // 0.55 s and what a busy machine adds
		t.Errorf("GET /v1/key was answered after %v", took)
	}
	if a := <-page; a == nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("the list: %+v", a)
	}
	mustBeNil(t, lock.Rollback())
	for deadline := time.Now().Add(time.Minute); ; {
		a := s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal())
		if a.status == http.StatusOK {
			break
		}
		mustf(t, a.status == http.StatusServiceUnavailable && time.Now().Before(deadline), "with the lock gone: %d", a.status)
	}
}
