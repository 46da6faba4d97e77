package revocation

import (
	"context"
	"flag"
	"syscall"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

var long = flag.Bool("long", false, "drive each case for a while, not for one round or two")

const (
	longCase   = 25 * time.Second
	moreRounds = 2 // in the short form, for faults that come before and after the confirmation
)

// A fault is something that goes wrong while a key is revoked.
type fault struct {
	name   string
	rounds int // in the short form
	// site says where the replicas are to run; cluster is there to share.
	site func(t *testing.T, cluster *storetest.Cluster) *site
	// round revokes the driver's key while the fault is on. Rounds are counted from 0, to go about it in turns.
	round func(d *driver, n int)
}

var faults = []fault{
	{"none", 3, twoReplicas, undisturbed},
	{"replica stopped", 1, twoReplicas, stopped},
	{"path slow", 1, secondBehindProxy, slow},
	{"answers late", 1, secondBehindProxy, late},
	{"path cut", moreRounds, secondBehindProxy, severed},
	{"path reset", 1, secondBehindProxy, resets},
	{"backends terminated", 1, twoReplicas, terminated},
	{"backend frozen", moreRounds, onOwnServer, frozen},
	{"PgBouncer", 3, behindPgBouncer, undisturbed},
	{"database restarted", moreRounds, onOwnServer, restarted},
	{"replica killed", moreRounds, twoReplicas, killed},
	{"replica killed on SQLite", 1, onSQLite, killed},
	{"standby promoted, synchronous", 1, synchronous, promoted},
	{"standby promoted, asynchronous", 1, withFailover, lost},
}

// TestFaults revokes keys on real replicas under load while things go wrong.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("driving replicas is not short")
	}
	program, cluster := build(t, nil), storetest.NewCluster(t)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.drive(t, program, cluster, func(d *driver) bool {
				found := d.settle()
				for _, v := range found {
					t.Errorf("%s: %s", v.kind, v.text)
				}
				return len(found) == 0
			})
		})
	}
}

// keysPerSite is less than an admin may generate in a minute.
const keysPerSite = 50

// drive goes through the rounds of a fault for as long as they are well.
func (f *fault) drive(t *testing.T, program string, cluster *storetest.Cluster, well func(*driver) bool) {
	t.Helper()
	var s *site
	var sum summary
	for n, begin := 0, time.Now(); n < f.rounds || *long && time.Since(begin) < longCase; n++ {
		if n%keysPerSite == 0 || s.standby != nil { // which takes over but once
			s = f.site(t, cluster)
			s.program, s.sum = program, &sum
			s.open(t)
		}
		d := s.drive(t)
		f.round(d, n)
		if !well(d) {
			break
		}
	}
	t.Log(&sum)
}

func twoReplicas(t *testing.T, cluster *storetest.Cluster) *site {
	return &site{database: cluster.Postgres(t), cluster: cluster}
}

// onOwnServer is for faults that would reach other sites.
func onOwnServer(t *testing.T, _ *storetest.Cluster) *site {
	return twoReplicas(t, storetest.NewCluster(t))
}

func secondBehindProxy(t *testing.T, cluster *storetest.Cluster) *site {
	s := twoReplicas(t, cluster)
	p, path := newProxy(t, s.database)
	s.proxy, s.paths = p, []string{s.database, path}
	return s
}

func onSQLite(t *testing.T, _ *storetest.Cluster) *site {
	database := storetest.SQLite(t)
	return &site{database: database, paths: []string{database}}
}

// inTurn are the ways to revoke on a replica, one after another.
func inTurn(n, replica int) []way {
	switch n % 3 {
	case 0:
		return []way{byPage(replica)}
	case 1:
		return []way{byKey(replica), byPage(replica)}
	}
	return []way{byCommand}
}

func undisturbed(d *driver, n int) { d.revoke(inTurn(n, n%len(d.site.replicas))...) }

// stopped stops a replica across the revocation and has requests wait for it, on connections old and new.
func stopped(d *driver, n int) {
	r := d.site.replicas[1]
	idle := d.connect(1, 8)
	r.signal(d.t, syscall.SIGSTOP)
	d.revoke(inTurn(n, 0)...)
	d.queue(1, idle)
	r.signal(d.t, syscall.SIGCONT)
}

// slow makes a replica's path to the database too slow to check keys in time, though not to show pages.
func slow(d *driver, n int) {
	d.change(1, standing{cutOff: true})
	d.site.proxy.slow(300*time.Millisecond, 300*time.Millisecond)
	defer d.site.proxy.slow(0, 0)
	d.awaitAnswers()
	d.revoke(inTurn(n, 0)...)
	d.awaitAnswers()
}

// late has answers of the database arrive long after it has given them, so that whoever uses one that was given before the
// confirmation for a request that came after it is found out.
func late(d *driver, n int) {
	d.site.proxy.slow(0, 120*time.Millisecond)
	defer d.site.proxy.slow(0, 0)
	d.awaitAnswers()
	d.revoke(inTurn(n, 0)...)
	d.awaitAnswers()
}

// severed cuts a replica's path before the revocation on another one, or a moment after a revocation on it has begun.
func severed(d *driver, n int) {
	defer d.site.proxy.restore()
	if n%2 == 0 {
		d.change(1, standing{cutOff: true})
		d.site.proxy.cut()
		d.awaitAnswers()
		d.revoke(inTurn(n/2, 0)...)
		d.awaitAnswers()
		return
	}
	wait := d.revoking(inTurn(n/2%2, 1)...)
	time.Sleep(time.Duration(n/2%8) * time.Millisecond)
	d.site.proxy.cut()
	d.awaitAnswers()
	d.site.proxy.restore()
	wait()
}

// resets breaks every connection of a replica to the database, again and again, and less and less often.
func resets(d *driver, n int) {
	defer again(20*time.Millisecond, d.site.proxy.reset)()
	d.awaitAnswers()
	d.revoke(inTurn(n, n%2)...)
	d.awaitAnswers()
}

// terminated ends every connection of every replica at the server, again and again, and less and less often: on a busy
// machine a revocation may need longer than the first pause.
func terminated(d *driver, n int) {
	db := storetest.DB(d.t, d.site.database)
	db.SetMaxOpenConns(1)
	defer db.Close()
	defer again(50*time.Millisecond, func() {
		if _, err := db.ExecContext(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			d.t.Error(err)
		}
	})()
	d.awaitAnswers()
	d.revoke(inTurn(n, n%2)...)
	d.awaitAnswers()
}

// frozen stops one process of the server: one that looks keys up, or one that serves pages. It may hold locks that others
// want, so the revocation may have to wait until it is released.
func frozen(d *driver, n int) {
	db := storetest.DB(d.t, d.site.database)
	defer db.Close()
	var backend int
	waitFor(d.t, "a backend", func() error {
		// Neither is one that a replica asks every second who is the primary.
		return db.QueryRowContext(d.t.Context(), `SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND query NOT LIKE '%synchronous_standby_names%'
				AND (query LIKE '%transaction_read_only%api_keys%') = $1 LIMIT 1`, n%2 == 0).Scan(&backend)
	})
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(backend, s); err != nil && err != syscall.ESRCH {
			d.t.Fatalf("backend %d: %v", backend, err)
		}
	}
	defer signal(syscall.SIGCONT)
	signal(syscall.SIGSTOP)
	wait := d.revoking(inTurn(n/2, 0)...)
	d.awaitAnswers()
	time.Sleep(200 * time.Millisecond)
	signal(syscall.SIGCONT)
	wait()
}

// restarted ends the database as a crash does, just after the confirmation or in the middle of the revocation.
func restarted(d *driver, n int) {
	wait := d.revoking(inTurn(n/2, 0)...)
	if n%2 == 0 {
		wait()
	}
	for i := range d.site.replicas {
		d.change(i, standing{cutOff: true})
	}
	d.site.cluster.Stop(d.t)
	d.awaitAnswers()
	d.site.cluster.Start(d.t)
	if n%2 == 1 {
		wait()
	}
}

// killed kills the replica that has just confirmed and starts another one.
func killed(d *driver, n int) {
	last := len(d.site.replicas) - 1
	d.change(last, standing{breaks: true, gone: true})
	ways := inTurn(n%2, last)
	d.revoke(ways...)
	d.site.replicas[last].kill()
	d.attach(d.site.join(d.t), standing{late: true})
}

// again does something now and then, with a pause that grows, until it is told to stop.
func again(pause time.Duration, do func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for ; ; pause += pause / 8 {
			do()
			select {
			case <-quit:
				return
			case <-time.After(pause):
			}
		}
	}()
	return func() { close(quit); <-done }
}
