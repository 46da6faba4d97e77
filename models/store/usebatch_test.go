package store_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
	"cicosts/models/usage"
)

// usesOf is a batch of n requests with each key, all refused.
func usesOf(id string, n int64, keys ...string) models.Uses {
	uses := models.Uses{ID: id}
	for _, key := range keys {
		uses.Newest = append(uses.Newest, models.LastUse{KeyID: key, Refused: true, UsedAt: 1, Outcome: models.OutcomeRevoked})
		uses.Counts = append(uses.Counts, models.DailyUse{KeyID: key, Day: 1, Outcome: models.OutcomeRevoked, Requests: n})
		uses.Refusals = append(uses.Refusals, source(key, "a", 1, int(n)))
	}
	return uses
}

// counted returns how many requests with a key are counted, and how many of its
// sources.
func counted(t *testing.T, st *store.Store, key models.APIKey) (requests, ofSources int64) {
	t.Helper()
	days, err := st.UseByDay(t.Context(), key.AccountID, []string{key.ID}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, day := range days {
		requests += day.Requests
	}
	sources, err := st.RefusalSources(t.Context(), key.AccountID, key.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		ofSources += s.Requests
	}
	return requests, ofSources
}

// A batch is saved once, and says each time what it dropped: the use of keys
// that the database does not have, alone.
func TestBatchIsSavedOnce(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		var ahead atomic.Int64
		st, err := store.Open(t.Context(), store.Config{URL: url, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		owner := storetest.MustOwner(t, st)
		_, one := storetest.MustKey(t, st, owner)
		_, two := storetest.MustKey(t, st, owner)
		uses := usesOf("first", 3, one.ID, "key_lost", two.ID)
		save := func(uses models.Uses, wantDropped int64) {
			t.Helper()
			before := usesOf(uses.ID, 3, one.ID, "key_lost", two.ID)
			dropped, err := st.SaveUse(t.Context(), uses)
			if err != nil || dropped != wantDropped {
				t.Errorf("%d dropped, want %d; %v", dropped, wantDropped, err)
			}
			if len(uses.Counts) == 3 && !cmp.Equal(before, uses) {
				t.Errorf("the batch was changed to %+v", uses)
			}
		}
		want := func(requests int64) {
			t.Helper()
			for _, key := range []models.APIKey{one, two} {
				if got, ofSources := counted(t, st, key); got != requests || ofSources != requests {
					t.Errorf("%d requests are counted, of sources %d, want %d", got, ofSources, requests)
				}
			}
		}
		save(uses, 3)
		want(3)
		save(uses, 3)
		want(3)
		uses.ID = "second"
		save(uses, 3)
		want(6)
		save(usesOf("third", 2, "key_lost"), 2) // nothing is left to save

		ids := "SELECT id FROM use_batches ORDER BY id"
		if diff := cmp.Diff([]string{"first", "second", "third"}, column(t, url, ids)); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		ahead.Store(int64(25 * time.Hour))
		save(usesOf("late", 1, one.ID, two.ID), 0)
		if diff := cmp.Diff([]string{"late"}, column(t, url, ids)); diff != "" {
			t.Errorf("batches a day later (-want +got):\n%s", diff)
		}
		if _, err := st.SaveUse(t.Context(), usesOf("", 1, one.ID)); err == nil {
			t.Error("a batch without an id was saved")
		}
	})
}

// losesAnswer is a store whose first answers are lost after it has saved.
type losesAnswer struct {
	*store.Store
	left atomic.Int64
	lost chan struct{}
}

func (l *losesAnswer) SaveUse(ctx context.Context, uses models.Uses) (int64, error) {
	dropped, err := l.Store.SaveUse(ctx, uses)
	if err == nil && l.left.Add(-1) >= 0 {
		l.lost <- struct{}{}
		return 0, models.Unavailable(errors.New("the answer was lost"))
	}
	return dropped, err
}

// record records n refused requests with a key.
func record(r *usage.Recorder, key models.APIKey, n int) {
	for range n {
		r.Record(models.LastUse{KeyID: key.ID, Refused: true, UsedAt: models.At(time.Now()), IP: "192.0.2.1", Route: "GET /v1/key", Outcome: models.OutcomeRevoked})
	}
}

// receive waits for something that happens by itself.
func receive(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("not within a minute: %s", what)
	}
}

// Requests are counted once though the answer is lost that they are saved.
func TestLostAnswerCountsOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		_, key := storetest.MustKey(t, st, storetest.MustOwner(t, st))
		sink := &losesAnswer{Store: st, lost: make(chan struct{})}
		sink.left.Store(1)
		r := usage.New(usage.Config{Sink: sink, Every: time.Hour, Soon: time.Nanosecond})
		record(r, key, 10)
		receive(t, "the answer is lost", sink.lost)
		record(r, key, 5)
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if requests, ofSources := counted(t, st, key); requests != 15 || ofSources != 15 {
			t.Errorf("%d requests are counted, of sources %d, want 15", requests, ofSources)
		}
	})
}

// Requests are counted once though the connection ends while COMMIT is
// answered.
func TestLostCommitCountsOnce(t *testing.T) {
	address := storetest.Postgres(t)
	_, key := func() (any, models.APIKey) {
		st := storetest.Open(t, address)
		return storetest.MustKey(t, st, storetest.MustOwner(t, st))
	}()
	lossy, through := newLossyProxy(t, address)
	st := storetest.Open(t, through)
	lossy.armed.Store(true)
	r := usage.New(usage.Config{Sink: st, Every: time.Hour, Soon: time.Nanosecond})
	record(r, key, 10)
	receive(t, "the answer to COMMIT is lost", lossy.lost)
	record(r, key, 5)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if requests, ofSources := counted(t, st, key); requests != 15 || ofSources != 15 {
		t.Errorf("%d requests are counted, of sources %d, want 15", requests, ofSources)
	}
}

// lossyProxy is a path to a PostgreSQL server that loses the answer to one
// COMMIT, and ends the connection.
type lossyProxy struct {
	socket string
	armed  atomic.Bool
	lost   chan struct{}
}

// newLossyProxy starts a proxy before a database and returns it and the
// database's URL through it.
func newLossyProxy(t *testing.T, database string) (*lossyProxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p := &lossyProxy{socket: filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432"), lost: make(chan struct{}, 1)}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	u.Host, u.RawQuery = listener.Addr().String(), "sslmode=disable"
	return p, u.String()
}

func (p *lossyProxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.socket)
	if err != nil {
		return
	}
	defer server.Close()
	var losing atomic.Bool
	go func() {
		defer client.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if err == nil && losing.Load() { // COMMIT is done
				p.lost <- struct{}{}
				return
			}
			if err != nil {
				return
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.HasPrefix(buffer[:n], []byte("Q")) && bytes.Contains(buffer[:n], []byte("commit")) && p.armed.CompareAndSwap(true, false) {
			losing.Store(true)
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}
