package store_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// What a standby answers is no answer, neither for a key that it has nor for one that it has not, until it is promoted.
func TestStandbyNeverAnswersALookup(t *testing.T) {
	primary := storetest.NewCluster(t)
	url := primary.Postgres(t)
	st := storetest.Open(t, url)
	secret, _ := storetest.MustKey(t, st, storetest.MustOwner(t, st))
	standby := primary.Standby(t)
	primary.CaughtUp(t, standby)
	pool, err := pgxpool.New(t.Context(), storetest.WithHosts(url, standby.Host()))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	known, unknown := storetest.Hasher.Hash(secret), keytext.Hash{}
	ask := func(hash keytext.Hash) (int, error) {
		found, err := store.LookupAnywhere(t.Context(), pool, []keytext.Hash{hash})
		return len(found), err
	}
	for _, hash := range []keytext.Hash{known, unknown} {
		if n, err := ask(hash); n != 0 || models.CodeOf(err) != models.CodeUnavailable {
			t.Errorf("on the standby: %d found, %v", n, err)
		}
	}
	standby.Promote(t)
	if n, err := ask(known); n != 1 || err != nil {
		t.Errorf("after the promotion: %d found, %v", n, err)
	}
	if n, err := ask(unknown); n != 0 || err != nil {
		t.Errorf("an unknown key after the promotion: %d found, %v", n, err)
	}
}

// pair is a primary, a standby that has all of it, and the URL of a database on both.
type pair struct {
	primary, standby *storetest.Cluster
	url              string
}

func newPair(t *testing.T) pair {
	t.Helper()
	p := pair{primary: storetest.NewCluster(t)}
	url := p.primary.Postgres(t)
	p.standby = p.primary.Standby(t)
	p.url = storetest.WithHosts(url, p.primary.Host(), p.standby.Host())
	return p
}

// synchronize has the primary confirm nothing that the standby has not, from when the store sees that.
func (p pair) synchronize(t *testing.T, st *store.Store) {
	t.Helper()
	p.primary.SetStandbys(t, "standby")
	until(t, "synchronous replication", func() bool {
		_, synchronous := st.Followed()
		return synchronous
	})
}

// until polls for what the store does by itself within a few seconds. The limit is for busy machines.
func until(t *testing.T, what string, done func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !done() {
		if time.Since(start) > time.Minute {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func follows(t *testing.T, st *store.Store, timeline int64) time.Duration {
	t.Helper()
	return until(t, "the store follows the primary", func() bool {
		now, _ := st.Followed()
		return now == timeline
	})
}

// answers reports whether a key is checked and a page read in the time that a request has.
func answers(ctx context.Context, st *store.Store) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if st.Ping(ctx) != nil {
		return false
	}
	_, err := st.HasUsers(ctx)
	return err == nil
}

// firewall passes connections on to a server, until it forgets those that are open and drops what comes on them.
type firewall struct {
	net.Listener
	mu    sync.Mutex
	conns []*atomic.Bool // whether each is forgotten
}

func newFirewall(t *testing.T, socket string) *firewall {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &firewall{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", socket)
			if err != nil {
				client.Close()
				continue
			}
			forgotten := &atomic.Bool{}
			f.mu.Lock()
			f.conns = append(f.conns, forgotten)
			f.mu.Unlock()
			go pass(client, server, forgotten)
			go pass(server, client, forgotten)
		}
	}()
	return f
}

func pass(from, to net.Conn, forgotten *atomic.Bool) {
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if forgotten.Load() {
			if err != nil {
				return
			}
			continue
		}
		if err == nil {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func (f *firewall) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Store(true)
	}
}

// Connections on which nobody answers any more do not keep the store for long from a server that is well.
func TestConnectionsThatFallSilent(t *testing.T) {
	cluster := storetest.NewCluster(t)
	wall := newFirewall(t, filepath.Join(cluster.Host(), ".s.PGSQL.5432"))
	st := storetest.Open(t, storetest.WithHosts(cluster.Postgres(t), wall.Addr().String()))
	storetest.MustOwner(t, st)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 24 {
		go func() {
			for ctx.Err() == nil {
				answers(ctx, st)
				time.Sleep(time.Millisecond) // or failures at once would keep the machine busy
			}
		}()
	}
	until(t, "every connection is open", func() bool {
		wall.mu.Lock()
		defer wall.mu.Unlock()
		return len(wall.conns) >= 18
	})
	wall.forget()
	took := until(t, "answers", func() bool { return answers(t.Context(), st) })
	t.Logf("answers after %v", took)
	if took > 12*time.Second { // about 3 s where the machine is not overloaded; by themselves connections are given up after 15 s
		t.Errorf("took %v", took)
	}
}

// Whether the old primary dies or only falls silent with connections open, pages and lookups go on with the promoted one.
func TestFollowsThePrimary(t *testing.T) {
	for name, fail := range map[string]func(p pair){
		"dead":   func(p pair) { p.primary.Stop(t) },
		"silent": func(p pair) { p.primary.Freeze(t) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			st := storetest.Open(t, p.url)
			storetest.MustOwner(t, st)
			p.primary.CaughtUp(t, p.standby)
			if name == "silent" {
				defer p.primary.Thaw(t)
			}
			// Every connection of both pools is in use when the primary fails.
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for range 16 {
				go func() {
					for ctx.Err() == nil {
						answers(ctx, st)
						time.Sleep(time.Millisecond) // or failures at once would keep the machine busy
					}
				}()
			}
			time.Sleep(50 * time.Millisecond)
			fail(p)
			until(t, "an outage", func() bool { return !answers(t.Context(), st) })
			p.standby.Promote(t)
			took := until(t, "answers", func() bool { return answers(t.Context(), st) })
			t.Logf("answers %v after the promotion", took)
			if took > 15*time.Second { // 5 s on a machine that is not overloaded
				t.Errorf("took %v", took)
			}
		})
	}
}

// withOldPrimary has a key revoked on the promoted standby, and the old primary, which knows nothing of that, running again.
func withOldPrimary(t *testing.T) (p pair, st *store.Store, hash []keytext.Hash) {
	t.Helper()
	p = newPair(t)
	st = storetest.Open(t, p.url)
	owner := storetest.MustOwner(t, st)
	secret, key := storetest.MustKey(t, st, owner)
	p.primary.CaughtUp(t, p.standby)
	p.primary.Stop(t)
	p.standby.Promote(t)
	follows(t, st, 2)
	until(t, "a revocation", func() bool {
		_, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
		return err == nil
	})
	p.primary.Start(t)
	return p, st, []keytext.Hash{storetest.Hasher.Hash(secret)}
}

// An old primary that comes back takes writes and knows of no promotion. Nobody asks it, even when there is nobody else.
func TestOldPrimaryIsRefused(t *testing.T) {
	p, st, hash := withOldPrimary(t)
	restarted := storetest.Open(t, p.url)
	wantRevoked := func(st *store.Store) {
		t.Helper()
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			found, err := st.KeysByHash(t.Context(), hash, false, nil)
			if err == nil && (len(found) != 1 || found[0].RevokedAt.IsZero()) {
				t.Fatalf("the old primary was asked: %v", found)
			}
		}
	}
	wantRevoked(st)
	wantRevoked(restarted)
	p.standby.Stop(t)
	until(t, "an outage", func() bool { return st.Ping(t.Context()) != nil })
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := st.KeysByHash(t.Context(), hash, false, nil); models.CodeOf(err) != models.CodeUnavailable {
			t.Fatalf("with the old primary alone: %v", err)
		}
	}
}

// Who starts does not take the first server that accepts writes for the primary, while another one is slow to answer.
func TestStartBesideAnOldPrimary(t *testing.T) {
	p, _, hash := withOldPrimary(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		var first net.Conn
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			if first == nil { // which is not answered
				first = client
				defer first.Close()
				continue
			}
			server, err := net.Dial("unix", filepath.Join(p.standby.Host(), ".s.PGSQL.5432"))
			if err != nil {
				client.Close()
				continue
			}
			go pass(client, server, &atomic.Bool{})
			go pass(server, client, &atomic.Bool{})
		}
	}()
	restarted := storetest.Open(t, storetest.WithHosts(p.url, p.primary.Host(), l.Addr().String()))
	if timeline, _ := restarted.Followed(); timeline != 2 {
		t.Errorf("it follows timeline %d", timeline)
	}
	found, err := restarted.KeysByHash(t.Context(), hash, false, nil)
	if err == nil && (len(found) != 1 || found[0].RevokedAt.IsZero()) {
		t.Errorf("the old primary was asked: %v", found)
	}
}

// blackHole is an address that takes connections and never says anything.
func blackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestStartWithHostsDown(t *testing.T) {
	primary := storetest.NewCluster(t)
	url := primary.Postgres(t)
	for name, hosts := range map[string][]string{
		"first silent":  {blackHole(t), primary.Host()},
		"first refuses": {"127.0.0.1:1", primary.Host()},
		"last silent":   {primary.Host(), blackHole(t)},
	} {
		st := storetest.Open(t, storetest.WithHosts(url, hosts...))
		if err := st.Ping(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	standby := primary.Standby(t)
	for name, hosts := range map[string][]string{
		"one standby":  {standby.Host()},
		"two standbys": {standby.Host(), standby.Host() + "/"},
		"primary down": {"127.0.0.1:1", standby.Host()},
	} {
		_, err := store.Open(t.Context(), store.Config{URL: storetest.WithHosts(url, hosts...)})
		if err == nil || !strings.Contains(err.Error(), "a standby may miss revocations") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
