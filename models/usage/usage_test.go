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

func (s *sink) SaveUse(_ context.Context, uses models.Uses) (int64, error) {
	newest, counts := uses.Newest, uses.Counts
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fail != nil {
		return 0, s.fail
	}
	if !slices.IsSortedFunc(newest, func(a, b models.LastUse) int { return compareIDs(a.KeyID, b.KeyID) }) {
		return 0, errors.New("uses are not sorted")
	}
	if !slices.IsSortedFunc(uses.Refusals, func(a, b models.RefusalSource) int { return compareSources(&a, &b) }) {
		return 0, errors.New("sources are not sorted")
	}
	for _, source := range uses.Refusals {
		if !slices.ContainsFunc(newest, func(u models.LastUse) bool { return u.KeyID == source.KeyID && u.Refused }) {
			return 0, errors.New("a source without the key's newest use")
		}
	}
	s.refusals = append(s.refusals, uses.Refusals...)
	s.newest = append(s.newest, newest...)
	if s.counts == nil {
		s.counts = map[countKey]int64{}
	}
	for _, c := range counts {
		s.counts[countKey{c.KeyID, c.Day, c.Route, c.Outcome}] += c.Requests
	}
	return 0, nil
}

// errDown leaves it open whether a batch was saved.
var errDown = models.Unavailable(errors.New("down"))

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
		s := &sink{fail: errDown}
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
		n := r.pending.size() + r.frozenSize
		r.mu.Unlock()
		if n > 100 {
			t.Errorf("%d entries kept, want at most 100", n)
		}
		if r.Dropped() == 0 {
			t.Error("nothing counted as dropped")
		}
		s.setFailure(nil)
		time.Sleep(11 * time.Second)
		if _, total := s.saved(); total+r.Dropped() != 60*80 {
			t.Errorf("%d saved and %d dropped of %d", total, r.Dropped(), 60*80)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
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

func refusal(key, agent string) models.LastUse {
	u := use(key)
	u.Refused, u.Outcome, u.UserAgent = true, models.OutcomeRevoked, agent
	return u
}

// Whenever the process is killed, it loses the uses of the last ten seconds, and those that a flush is saving just then.
func TestKillLosesTenSeconds(t *testing.T) {
	for _, slow := range []time.Duration{0, 100 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := &slowSink{takes: slow}
			r := New(Config{Sink: s, FlushAt: 1 << 30})
			const uses = 6000
			for i := range uses { // each on a route of its own, to be known again
				u := use("a")
				u.Route = u.UsedAt.Time().Format(time.RFC3339Nano)
				r.Record(u)
				time.Sleep(10 * time.Millisecond)
				if i%2000 == 1999 {
					time.Sleep(time.Minute)
				}
			}
			time.Sleep(15 * time.Second)
			synctest.Wait()
			if limit := 10*time.Second + slow; s.worst > limit || s.worst < limit-time.Second || s.saved != uses {
				t.Errorf("flushes take %v: %d of %d uses are saved, at the worst after %v, want about %v", slow, s.saved, uses, s.worst, limit)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// slowSink takes its time, and notes how long after a use, whose route is its time, it was saved.
type slowSink struct {
	takes, worst time.Duration
	saved        int
}

func (s *slowSink) SaveUse(_ context.Context, uses models.Uses) (int64, error) {
	time.Sleep(s.takes)
	for _, c := range uses.Counts {
		at, err := time.Parse(time.RFC3339Nano, c.Route)
		if err != nil {
			return 0, err
		}
		s.saved += int(c.Requests)
		s.worst = max(s.worst, time.Since(at))
	}
	return 0, nil
}

// One key at full speed costs one row of each table in ten seconds; refused from ever changing clients, 20 more.
func TestHotKeyCostsARow(t *testing.T) {
	for name, tt := range map[string]struct {
		use     func(i int) models.LastUse
		sources int
	}{
		"accepted": {func(int) models.LastUse { return use("a") }, 0},
		"refused":  {func(i int) models.LastUse { return refusal("a", fmt.Sprint("client ", i)) }, models.MaxRefusalSources},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var rows []models.Uses
				var at []time.Time
				r := New(Config{Sink: sinkFunc(func(u models.Uses) (int64, error) {
					rows, at = append(rows, u), append(at, time.Now())
					return 0, nil
				})})
				time.Sleep(time.Hour) // away from midnight
				for i := range 60_000 {
					r.Record(tt.use(i))
					time.Sleep(time.Millisecond)
				}
				if err := r.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				var total int64
				for i, u := range rows {
					if len(u.Newest) != 1 || len(u.Counts) != 1 || len(u.Refusals) != tt.sources {
						t.Errorf("flush %d has %d, %d and %d rows", i, len(u.Newest), len(u.Counts), len(u.Refusals))
					}
					if i > 0 && i < len(rows)-1 && at[i].Sub(at[i-1]) < 10*time.Second { // the last is Close's
						t.Errorf("flush %d comes %v after the one before", i, at[i].Sub(at[i-1]))
					}
					total += u.Counts[0].Requests
				}
				if total != 60_000 || len(rows) != 8-1 {
					t.Errorf("%d uses in %d flushes", total, len(rows))
				}
			})
		})
	}
}

type sinkFunc func(models.Uses) (dropped int64, err error)

func (f sinkFunc) SaveUse(_ context.Context, uses models.Uses) (int64, error) { return f(uses) }
