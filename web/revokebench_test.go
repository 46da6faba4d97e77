package web

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/keyring"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
	"cicosts/models/usage"
	"cicosts/web/loadtest"
)

// BenchmarkRevoke measures how long the click on Revoke takes until the answer that confirms it, over HTTP through the whole
// server with a session, while nobody else asks anything and while 64 connections call the API. It fails when a key is
// accepted after that answer.
func BenchmarkRevoke(b *testing.B) {
	const clicks = 150
	st := storetest.Open(b, storetest.Postgres(b))
	owner := storetest.MustOwner(b, st)
	uses := usage.New(usage.Config{Sink: st})
	b.Cleanup(func() { uses.Close(context.Background()) })
	srv := httptest.NewServer(newWhole(b, st, uses))
	b.Cleanup(srv.Close)
	secret, _ := storetest.MustKey(b, st, owner)
	r := &revokeBench{
		b: b, st: st, owner: owner, address: srv.Listener.Addr().String(), cookie: signedInCookie(b, st, owner),
		ring: keyring.New(keyring.Config{Source: st, Hashers: []*keytext.Hasher{storetest.Hasher}}),
	}
	for b.Loop() {
		r.dial()
		idle := r.click(clicks)

		load := &loadtest.Way{Name: "load", Addr: r.address, Keys: []string{secret.Reveal()}}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					load.Turn(b, 64, 200*time.Millisecond)
				}
			}
		}()
		loaded := r.click(clicks)
		close(stop)
		<-done
		r.conn.Close()

		fmt.Print("\n| from the click to the confirming answer | p50 | p99 |\n|---|---|---|\n")
		for _, row := range []struct {
			name string
			took []time.Duration
		}{{"while nobody else asks", idle}, {fmt.Sprintf("beside 64 connections (%.0f requests a second)", load.Rate()), loaded}} {
			fmt.Printf("| %s | %v | %v |\n", row.name, round(loadtest.Percentile(row.took, 50)), round(loadtest.Percentile(row.took, 99)))
		}
		b.ReportMetric(float64(loadtest.Percentile(idle, 50).Microseconds()), "idle-p50-us")
		b.ReportMetric(float64(loadtest.Percentile(loaded, 50).Microseconds()), "loaded-p50-us")
		b.ReportMetric(float64(loadtest.Percentile(loaded, 99).Microseconds()), "loaded-p99-us")
	}
}

type revokeBench struct {
	b       *testing.B
	st      *store.Store
	owner   models.Visitor
	address string
	cookie  *http.Cookie
	ring    *keyring.Keyring // another replica's

	conn    net.Conn
	answers *bufio.Reader
}

// dial opens the connection that a browser keeps.
func (r *revokeBench) dial() {
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		r.b.Fatal(err)
	}
	r.conn, r.answers = conn, bufio.NewReader(conn)
}

// click revokes keys, one after the other.
func (r *revokeBench) click(n int) (took []time.Duration) {
	for range n {
		secret, key := storetest.MustKey(r.b, r.st, r.owner)
		request := "POST /settings/api/keys/" + key.ID + "/revoke HTTP/1.1\r\nHost: bench\r\nOrigin: http://bench\r\nSec-Fetch-Site: same-origin\r\n" +
			"Cookie: " + r.cookie.Name + "=" + r.cookie.Value + "\r\nContent-Length: 0\r\n\r\n"
		start := time.Now()
		if _, err := r.conn.Write([]byte(request)); err != nil {
			r.b.Fatal(err)
		}
		status, err := loadtest.ReadAnswer(r.answers)
		took = append(took, time.Since(start))
		if err != nil || status != http.StatusSeeOther {
			r.b.Fatalf("revoking: %d, %v", status, err)
		}
		if _, err := r.ring.Verify(r.b.Context(), secret.Reveal()); err == nil {
			r.b.Fatal("accepted after the revocation was confirmed")
		}
	}
	return took
}
