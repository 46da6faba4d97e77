package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// A few wrong passwords have a line each, with the address that was typed. What
// goes on is counted in one line for each network, then in one for all others.
func TestRefusedSignInsAreSummedUp(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		st := openAt(t, url, &now)
		user := storetest.MustOwner(t, st)
		refuse := func(n int, ip, id, label string) {
			t.Helper()
			for range n {
				now = now.Add(time.Millisecond)
				if err := st.RecordRefusedSignIn(t.Context(), models.Actor{Type: models.ActorUser, ID: id, Label: label, IP: ip}); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := func(what, accountID string, lines ...string) {
			t.Helper()
			if diff := cmp.Diff(lines, refusedLines(t, url, accountID)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		refuse(4, "192.0.2.1", user.UserID, user.Email)
		one := fmt.Sprintf("192.0.2.1|%s|%s||1", user.Email, user.UserID)
		want("a few", user.AccountID, one, one, one, one)
		refuse(40, "192.0.2.1", user.UserID, user.Email)
		flood := []string{one, one, one, one, one, "192.0.2.1|||further attempts in the same minute|39"}
		want("many from one address", user.AccountID, flood...)
		for i := range 8 { // one network of IPv6
			refuse(1, fmt.Sprintf("2001:db8::%x", i), user.UserID, user.Email)
		}
		for i := range 5 {
			flood = append(flood, fmt.Sprintf("2001:db8::%x|%s|%s||1", i, user.Email, user.UserID))
		}
		flood = append(flood, "2001:db8::/64|||further attempts in the same minute|3")
		want("many from one network", user.AccountID, flood...)
		refuse(2, "192.0.2.1", "", "nobody@example.com")
		want("an unknown user", "", "192.0.2.1|nobody@example.com|||1", "192.0.2.1|nobody@example.com|||1")
		now = now.Add(time.Minute)
		refuse(1, "192.0.2.1", user.UserID, user.Email)
		want("a minute later", user.AccountID, append(flood, one)...)
	})
}

// A minute adds a bounded number of lines and loses no attempt, also when
// attempts are refused at the same time on several replicas.
func TestRefusedSignInsAreBounded(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		replicas := []*store.Store{openAt(t, url, &now), openAt(t, url, &now)}
		const workers, each = 8, 25
		var all sync.WaitGroup
		for w := range workers {
			all.Go(func() {
				for i := range each {
					by := models.Actor{Type: models.ActorUser, IP: fmt.Sprintf("198.51.%d.%d", i%2*w, i)}
					if i%5 == 0 {
						by.IP = "192.0.2.1"
					}
					if err := replicas[w%2].RecordRefusedSignIn(t.Context(), by); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		lines, attempts, sums := refusedLines(t, url, ""), 0, map[string]int{}
		for _, line := range lines {
			fields := strings.Split(line, "|")
			var times int
			fmt.Sscan(fields[4], &times)
			attempts += times
			if fields[3] != "" {
				sums[fields[0]+fields[3]]++
			}
		}
		if len(lines) != store.RefusedSignInLines || attempts != workers*each {
			t.Errorf("%d lines of %d attempts, want %d of %d:\n%s", len(lines), attempts, store.RefusedSignInLines, workers*each, strings.Join(lines, "\n"))
		}
		for of, n := range sums {
			if n != 1 {
				t.Errorf("%d lines sum up %q", n, of)
			}
		}
	})
}

// openAt opens a store whose clock is *now.
func openAt(t *testing.T, url string, now *time.Time) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: url, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// refusedLines returns an account's lines about refused sign-ins, oldest first.
func refusedLines(t *testing.T, url, accountID string) (lines []string) {
	t.Helper()
	rows, err := storetest.DB(t, url).Query(`SELECT ip || '|' || actor_label || '|' || target_id || '|' || detail || '|' || times FROM audit_events
		WHERE action = 'session.refused' AND account_id = $1 ORDER BY at, id`, accountID)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}
