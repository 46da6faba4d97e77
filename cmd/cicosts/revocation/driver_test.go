// Package revocation holds the tests of the promise that revoked means revoked: no request that is sent after the answer
// that confirms a revocation is accepted, by no replica, whatever goes wrong meanwhile; and a key whose state is not known
// is answered 503, in time. It starts the program as real processes on one database, sends requests to all of them while a
// key is revoked, records them on one clock, and then reads the record. What the driver finds in no replica it has to find
// in mutants of the program.
//
// There is nothing here but tests. Run them for longer with -long, or make test-revocation.
package revocation

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cicosts/models/keytext"
)

// Each replica has clients that send the next request when they have the last one's answer, each on a connection that it
// keeps, and a stream of requests that wait for no answer and have a connection each. Without the stream most requests
// would be sent just after a lookup has ended, and none while one is under way.
const (
	clientsPerReplica = 3
	pause             = 5 * time.Millisecond // between a client's answer and its next request
	streamPause       = 8 * time.Millisecond
	streamWaiting     = 100 // requests of a stream that have no answer yet, at most
	controlPause      = 20 * time.Millisecond
	answerTimeout     = patience
)

// A driver sends requests to every replica while a key is revoked, and records what becomes of them.
type driver struct {
	t       *testing.T
	site    *site
	key, id string // the key to revoke
	other   string // a key that never is

	begin   time.Time
	clients sync.WaitGroup
	stop    chan struct{}

	mu  sync.Mutex // guards rec until the clients have ended
	rec record

	bad atomic.Bool // a promise seems broken, so there is no use in waiting
}

// drive starts clients for every replica of the site and waits until each has accepted a new key.
func (s *site) drive(t *testing.T) *driver {
	t.Helper()
	d := &driver{t: t, site: s, other: s.kept, begin: time.Now(), stop: make(chan struct{})}
	d.key, d.id = s.admin.generate(t, s.replicas[0])
	d.rec.asked, d.rec.confirmed = unconfirmed, unconfirmed
	if !*long {
		d.rec.spare = 400 * time.Millisecond
	}
	for i := range s.replicas {
		d.attach(i, standing{})
	}
	t.Cleanup(d.end)
	d.await("every replica accepts the key", func(r *record) bool {
		n := answers(r, doomed, http.StatusOK, 0)
		return slices.Min(n) >= leastTraffic
	})
	return d
}

// unconfirmed is later than everything that is recorded.
const unconfirmed = time.Duration(1 << 62)

func (d *driver) now() time.Duration { return time.Since(d.begin) }

// attach starts the clients of a replica.
func (d *driver) attach(replica int, s standing) {
	d.mu.Lock()
	d.rec.replicas = append(d.rec.replicas, s)
	d.mu.Unlock()
	addr := d.site.replicas[replica].addr
	for range clientsPerReplica {
		d.clients.Go(func() { d.client(replica, addr) })
	}
	d.clients.Go(func() { d.stream(replica, addr) })
	d.clients.Go(func() { d.control(replica, addr) })
}

// turn says with which key the nth request is.
func turn(n int) bearer {
	turns := [...]bearer{doomed, kept, doomed, doomed, kept, doomed, kept, unknown}
	return turns[n%len(turns)]
}

// client asks again and again, with one key and another.
func (d *driver) client(replica int, addr string) {
	var c *connection
	for n := 0; d.running(); n++ {
		c = d.ask(c, replica, addr, turn(n))
		d.sleep(pause)
	}
	c.close()
}

// stream asks without waiting for answers.
func (d *driver) stream(replica int, addr string) {
	waiting := make(chan struct{}, streamWaiting)
	for n := 0; d.running(); n++ {
		select {
		case waiting <- struct{}{}:
			d.clients.Go(func() {
				d.ask(nil, replica, addr, turn(n)).close()
				<-waiting
			})
		default:
		}
		d.sleep(streamPause)
	}
}

// control asks what needs neither key nor database.
func (d *driver) control(replica int, addr string) {
	var c *connection
	for d.running() {
		c = d.ask(c, replica, addr, nobody)
		d.sleep(controlPause)
	}
	c.close()
}

func (d *driver) running() bool {
	select {
	case <-d.stop:
		return false
	default:
		return true
	}
}

func (d *driver) sleep(pause time.Duration) {
	select {
	case <-d.stop:
	case <-time.After(pause):
	}
}

// ask sends one request, on a new connection where there is none, records the answer, and returns a connection for the
// next one, or nil.
func (d *driver) ask(c *connection, replica int, addr string, b bearer) *connection {
	e := event{replica: replica, bearer: b, sent: d.now()}
	c, err := c.orDial(addr)
	if err == nil {
		e.sent, err = d.send(c, b)
	}
	if err != nil {
		e.received, e.failure = d.now(), err.Error()
		d.record(e)
		d.sleep(4 * pause)
		return c.close()
	}
	return d.receive(c, e)
}

// send writes a request and returns when that began.
func (d *driver) send(c *connection, b bearer) (time.Duration, error) {
	path, text := "/v1/key", ""
	switch b {
	case nobody:
		path = "/healthz"
	case doomed:
		text = d.key
	case kept:
		text = d.other
	case unknown:
		text = keytext.Mint(keytext.Live).Reveal()
	}
	head := "GET " + path + " HTTP/1.1\r\nHost: cicosts.test\r\n"
	if text != "" {
		head += "Authorization: Bearer " + text + "\r\n"
	}
	sent := d.now()
	_, err := io.WriteString(c, head+"\r\n")
	return sent, err
}

// receive reads the answer to what was sent.
func (d *driver) receive(c *connection, e event) *connection {
	resp, err := http.ReadResponse(c.reader, nil)
	e.received = d.now()
	if err != nil {
		e.failure = err.Error()
		d.record(e)
		d.sleep(4 * pause)
		return c.close()
	}
	e.status, e.retryAfter = resp.StatusCode, resp.Header.Get("Retry-After")
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	e.unchecked = e.status == http.StatusServiceUnavailable && bytes.Contains(body, []byte("The API key could not be checked"))
	d.record(e)
	if err != nil || resp.Close {
		return c.close()
	}
	return c
}

func (d *driver) record(e event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rec.events = append(d.rec.events, e)
	if e.bearer == doomed && e.status == http.StatusOK && d.rec.refuses(&e) {
		d.bad.Store(true)
	}
}

// connect returns connections to a replica that have been used and wait for their next request.
func (d *driver) connect(replica, n int) []*connection {
	d.t.Helper()
	conns := make([]*connection, n)
	for i := range conns {
		if conns[i] = d.ask(nil, replica, d.site.replicas[replica].addr, kept); conns[i] == nil {
			d.t.Fatalf("replica %d does not answer", replica)
		}
	}
	return conns
}

// queue sends the key on these connections and on as many new ones, and returns when all is written, whether or not
// anybody reads it.
func (d *driver) queue(replica int, conns []*connection) {
	d.t.Helper()
	for range len(conns) {
		c, err := (*connection)(nil).orDial(d.site.replicas[replica].addr)
		if err != nil {
			d.t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		e := event{replica: replica, bearer: doomed}
		var err error
		if e.sent, err = d.send(c, doomed); err != nil {
			d.t.Fatal(err)
		}
		d.clients.Go(func() { d.receive(c, e).close() })
	}
}

// await waits until the record is so, or until there is no use in waiting; check will find what is missing. It reports
// whether it is so.
func (d *driver) await(what string, so func(*record) bool) bool {
	d.t.Helper()
	for deadline := time.Now().Add(patience); !d.bad.Load(); time.Sleep(10 * time.Millisecond) {
		d.mu.Lock()
		done := so(&d.rec)
		d.mu.Unlock()
		if done {
			return true
		}
		if time.Now().After(deadline) {
			d.t.Logf("not within %v: %s", patience, what)
			return false
		}
	}
	return false
}

// answers counts the answers of each replica to requests that were sent after a moment.
func answers(r *record, b bearer, status int, after time.Duration) []int {
	n := make([]int, len(r.replicas))
	for i := range r.events {
		if e := &r.events[i]; e.bearer == b && e.status == status && e.sent > after {
			n[e.replica]++
		}
	}
	return n
}

// settle waits until every replica that is there refuses the key and accepts another one, ends the clients, and returns
// what is wrong.
func (d *driver) settle() []violation {
	d.t.Helper()
	d.await("every replica refuses the key and accepts others", func(r *record) bool {
		refused := answers(r, doomed, http.StatusUnauthorized, r.confirmed)
		working := answers(r, kept, http.StatusOK, r.confirmed)
		for i, s := range r.replicas {
			if !s.gone && min(refused[i], working[i]) < leastTraffic {
				return false
			}
		}
		return true
	})
	d.end()
	for i := len(d.rec.replicas) - 1; i >= 0; i-- {
		if d.rec.replicas[i].gone {
			d.site.replicas = slices.Delete(d.site.replicas, i, i+1)
		}
	}
	d.site.sum.add(&d.rec)
	return check(&d.rec)
}

// awaitAnswers waits until each replica that is there has answered some requests with the key that are sent from now on.
func (d *driver) awaitAnswers() {
	d.t.Helper()
	from := d.now()
	d.awaitEach("every replica answers", func(e *event) bool { return e.bearer == doomed && e.status != 0 && e.sent > from })
}

// awaitEach waits until each replica that is there has some events of a sort.
func (d *driver) awaitEach(what string, counts func(*event) bool) {
	d.t.Helper()
	d.await(what, func(r *record) bool {
		n := make([]int, len(r.replicas))
		for i := range r.events {
			if e := &r.events[i]; counts(e) {
				n[e.replica]++
			}
		}
		for i, s := range r.replicas {
			if !s.gone && n[i] < leastTraffic {
				return false
			}
		}
		return true
	})
}

// end ends the clients, once.
func (d *driver) end() {
	if d.running() {
		close(d.stop)
	}
	d.clients.Wait()
}

// change changes the standing of a replica.
func (d *driver) change(replica int, s standing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rec.replicas[replica] = s
}

// A connection is one of HTTP/1.1. The nil connection is none.
type connection struct {
	net.Conn
	reader *bufio.Reader
}

func (c *connection) orDial(addr string) (*connection, error) {
	if c == nil {
		conn, err := net.DialTimeout("tcp", addr, answerTimeout)
		if err != nil {
			return nil, err
		}
		c = &connection{Conn: conn, reader: bufio.NewReader(conn)}
	}
	return c, c.SetDeadline(time.Now().Add(answerTimeout))
}

func (c *connection) close() *connection {
	if c != nil {
		c.Close()
	}
	return nil
}

// A summary is what the records of one case come to.
type summary struct {
	rounds, requests, refused, unavailable int
	slowest, slowestUnavailable            time.Duration
	clicks                                 []time.Duration // from asking for a revocation to its confirmation
}

func (s *summary) add(r *record) {
	s.rounds++
	s.clicks = append(s.clicks, r.confirmed-r.asked)
	for i := range r.events {
		e := &r.events[i]
		if e.bearer == nobody {
			continue
		}
		s.requests++
		s.slowest = max(s.slowest, e.took())
		switch e.status {
		case http.StatusUnauthorized:
			if e.bearer == doomed {
				s.refused++
			}
		case http.StatusServiceUnavailable:
			s.unavailable++
			s.slowestUnavailable = max(s.slowestUnavailable, e.took())
		}
	}
}

func (s *summary) String() string {
	slices.Sort(s.clicks)
	quantile := func(q float64) time.Duration {
		if len(s.clicks) == 0 {
			return 0
		}
		return s.clicks[int(q*float64(len(s.clicks)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%d rounds, %d requests, %d refused, %d 503 (slowest %v), slowest answer %v, confirmed after p50 %v, p99 %v",
		s.rounds, s.requests, s.refused, s.unavailable, s.slowestUnavailable.Round(time.Millisecond), s.slowest.Round(time.Millisecond),
		quantile(0.5), quantile(0.99))
}
