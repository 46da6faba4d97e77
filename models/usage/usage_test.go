package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

// sink keeps what was saved.
type sink struct {
	mu     sync.Mutex
	fail   error
	calls  int
	newest []models.LastUse
	counts map[countKey]int64

	refusals []models.RefusalSource // of all calls
}

func (s *sink) SaveUse(_ context.Context, uses models.Uses) error {
	newest, counts := uses.Newest, uses.Counts
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fail != nil {
		return s.fail
	}
	if !slices.IsSortedFunc(newest, func(a, b models.LastUse) int { return compareIDs(a.KeyID, b.KeyID) }) {
		return errors.New("uses are not sorted")
	}
	if !slices.IsSortedFunc(uses.Refusals, func(a, b models.RefusalSource) int { return compareSources(&a, &b) }) {
		return errors.New("sources are not sorted")
	}
	s.refusals = append(s.refusals, uses.Refusals...)
	s.newest = append(s.newest, newest...)
	if s.counts == nil {
		s.counts = map[countKey]int64{}
	}
	for _, c := range counts {
		s.counts[countKey{c.KeyID, c.Day, c.Route, c.Outcome}] += c.Requests
	}
	return nil
}

func compareIDs(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

func (s *sink) setFailure(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *sink) saved() (calls int, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.counts {
		total += n
	}
	return s.calls, total
}

func use(key string) models.LastUse {
	return models.LastUse{KeyID: key, UsedAt: models.At(time.Now()), IP: "192.0.2.1", Route: "GET /v1/key", Outcome: models.OutcomeAccepted}
}

func TestFirstUseIsSavedSoonAndOthersEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		r := New(Config{Sink: s})
		defer r.Close(t.Context())
		r.Record(use("a"))
		time.Sleep(time.Second)
		if calls, total := s.saved(); calls != 1 || total != 1 {
			t.Errorf("after a second: %d flushes, %d uses", calls, total)
		}
		for range 3000 { // 30 s of a hot key
			r.Record(use("a"))
			time.Sleep(10 * time.Millisecond)
		}
		if calls, _ := s.saved(); calls < 3 || calls > 4 {
			t.Errorf("%d flushes in 31 s", calls)
		}
	})
}

func TestNewestWinsAndOutcomesAreCountedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		r := New(Config{Sink: s})
		time.Sleep(time.Hour) // away from midnight
		newer, older, refused := use("a"), use("a"), use("a")
		older.UsedAt -= 1000
		refused.Refused, refused.Outcome = true, models.OutcomeRevoked
		r.Record(newer)
		r.Record(older)
		r.Record(refused)
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]models.LastUse{newer, refused}, s.newest); diff != "" {
			t.Error(diff)
		}
		day := newer.UsedAt.Day()
		want := map[countKey]int64{
			{"a", day, "GET /v1/key", models.OutcomeAccepted}: 2,
			{"a", day, "GET /v1/key", models.OutcomeRevoked}:  1,
		}
		if diff := cmp.Diff(want, s.counts, cmp.AllowUnexported(countKey{})); diff != "" {
			t.Error(diff)
		}
	})
}

func TestManyKeysAreSavedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		r := New(Config{Sink: s, FlushAt: 1000})
		defer r.Close(t.Context())
		r.Record(use("first"))
		time.Sleep(time.Second) // the next flush is nine seconds away
		for i := range 600 {
			r.Record(use(fmt.Sprintf("key %03d", i)))
		}
		synctest.Wait()
		if _, total := s.saved(); total < 500 { // two entries a key; what came during the flush waits
			t.Errorf("%d uses saved", total)
		}
	})
}

func TestCloseSavesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		r := New(Config{Sink: s})
		r.Record(use("a"))
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, total := s.saved(); total != 1 {
			t.Errorf("%d uses saved", total)
		}
	})
}

// While the database is down uses are kept, as many as there is room for, and tried again every ten seconds.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{fail: errors.New("down")}
		r := New(Config{Sink: s, Max: 100, FlushAt: 50})
		for range 60 {
			for i := range 80 { // 160 entries: a newest use and a count each
				r.Record(use(fmt.Sprintf("key %02d", i)))
			}
			time.Sleep(time.Second)
		}
		calls, _ := s.saved()
		if calls < 4 || calls > 8 {
			t.Errorf("%d tries in a minute", calls)
		}
		r.mu.Lock()
		n := r.pending.size()
		r.mu.Unlock()
		if n > 100 {
			t.Errorf("%d entries kept, want at most 100", n)
		}
		if r.Dropped() == 0 {
			t.Error("nothing counted as dropped")
		}
		s.setFailure(nil)
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, total := s.saved(); total+r.Dropped() != 60*80 {
			t.Errorf("%d saved and %d dropped of %d", total, r.Dropped(), 60*80)
		}
	})
}

func TestRecordingIsSafeFromManyGoroutines(t *testing.T) {
	s := &sink{}
	r := New(Config{Sink: s, Every: time.Millisecond, Soon: time.Millisecond})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 500 {
				r.Record(use(fmt.Sprint("key ", g%3)))
			}
		})
	}
	wg.Wait()
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, total := s.saved(); total != 4000 {
		t.Errorf("%d of 4,000 uses saved", total)
	}
}

func BenchmarkRecord(b *testing.B) {
	r := New(Config{Sink: &sink{}})
	defer r.Close(context.Background())
	u := use("key_1")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Record(u)
		}
	})
}
