package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/web/loadtest"
)

// BenchmarkSignIn measures how long an owner takes to sign in beside a flood of
// 500 parallel sign-ins of strangers, who try again as soon as they are
// answered.
func BenchmarkSignIn(b *testing.B) {
	for name, address := range map[string]func(i, round int) string{
		"one address":       func(int, int) string { return "192.0.2.66" },
		"one network":       func(i, _ int) string { return fmt.Sprintf("192.0.2.%d", i%256) },
		"500 networks":      func(i, _ int) string { return fmt.Sprintf("2001:%x::1", i) },
		"ever new networks": func(i, round int) string { return fmt.Sprintf("2001:%x:%x::1", i, round%65536) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s := sqliteSite(b, trusting("127.0.0.0/8"))
				v := s.addUser("Acme", models.RoleOwner)
				known := s.browser()
				known.signIn(v.Email)
				stop := floodLogin(s, address)
				took := map[string][]time.Duration{}
				turnedAway := 0
				for i := range 20 {
					browsers := map[string]*browser{"a known browser": known, "a new browser elsewhere": s.browser()}
					if name == "ever new networks" { // from which the new browser cannot be told
						delete(browsers, "a new browser elsewhere")
					}
					for who, b := range browsers {
						start := time.Now()
						for {
							a := b.post("/login", loginForm(v.Email, goodPassword), "X-Forwarded-For", fmt.Sprintf("203.0.%d.7", i))
							if a.status == http.StatusSeeOther {
								break
							}
							turnedAway++
						}
						took[who] = append(took[who], time.Since(start))
					}
				}
				stop()
				for who, list := range took {
					fmt.Printf("\n| signing in with %s beside 500 sign-ins from %s, p50 and worst | %v and %v |\n",
						who, name, round(loadtest.Percentile(list, 50)), round(loadtest.Percentile(list, 100)))
				}
				b.ReportMetric(float64(turnedAway), "turned-away")
			}
		})
	}
}

// floodLogin keeps 500 sign-ins with other e-mail addresses under way until
// stop is called. Round counts the tries of each.
func floodLogin(s *site, address func(i, round int) string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 500}}
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				form := loginForm(fmt.Sprintf("person%d-%d@example.org", i, round), "wrong horse battery staple").Encode()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.address+"/login", strings.NewReader(form))
				if err != nil {
					s.t.Error(err)
					return
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				req.Header.Set("X-Forwarded-For", address(i, round))
				if res, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		client.CloseIdleConnections()
	}
}
