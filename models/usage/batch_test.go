package usage

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

// A batch that may have been saved is sent again exactly as it was, before
// anything that came later, by Close too.
func TestBatchIsSentAgainUnchanged(t *testing.T) {
	for name, flushes := range map[string]bool{"by the next flush": true, "by Close": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sent []models.Uses
				r := New(Config{Sink: sinkFunc(func(u models.Uses) (int64, error) {
					sent = append(sent, u)
					if len(sent) == 1 {
						return 0, errDown
					}
					return 0, nil
				})})
				time.Sleep(time.Hour) // away from midnight
				r.Record(refusal("a", "client"))
				r.Record(use("b"))
				time.Sleep(time.Second)
				r.Record(refusal("a", "client"))
				r.Record(use("c"))
				if flushes {
					time.Sleep(11 * time.Second)
				}
				if err := r.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(sent) != 3 || len(sent[0].Counts) != 2 || len(sent[2].Counts) != 2 || len(sent[2].Refusals) != 1 {
					t.Fatalf("sent %+v", sent)
				}
				if diff := cmp.Diff(sent[0], sent[1]); diff != "" {
					t.Errorf("the batch that was sent again has changed (-first +again):\n%s", diff)
				}
				if sent[0].ID == "" || sent[2].ID == "" || sent[2].ID == sent[0].ID {
					t.Errorf("two batches have the ids %q and %q", sent[0].ID, sent[2].ID)
				}
			})
		})
	}
}

// Uses that the sink refuses are dropped and counted alone, and everything else
// is saved once.
func TestRefusedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		var ids []string
		r := New(Config{Sink: sinkFunc(func(u models.Uses) (int64, error) {
			ids = append(ids, u.ID)
			if slices.ContainsFunc(u.Counts, func(c models.DailyUse) bool { return strings.HasPrefix(c.KeyID, "bad") }) {
				return 0, errors.New("refused")
			}
			return s.SaveUse(t.Context(), u)
		})})
		time.Sleep(time.Hour) // away from midnight
		for round := range 3 {
			for i := range 40 {
				r.Record(use(fmt.Sprintf("good %02d", i)))
				r.Record(refusal(fmt.Sprintf("good %02d", i), fmt.Sprint("client ", round)))
			}
			r.Record(use("bad 1"))
			r.Record(use("bad 1"))
			r.Record(use("bad 2"))
			time.Sleep(11 * time.Second)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, total := s.saved(); total != 3*80 || r.Dropped() != 3*3 || len(s.refusals) != 3*40 {
			t.Errorf("%d uses and %d sources saved and %d dropped, want 240, 120 and 9", total, len(s.refusals), r.Dropped())
		}
		slices.Sort(ids)
		if len(slices.Compact(ids)) != len(ids) {
			t.Error("two batches have one id")
		}
	})
}

// A sink that refuses everything is not asked for each of many keys at once,
// and what it refused is dropped in the end.
func TestSinkRefusesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		r := New(Config{Sink: sinkFunc(func(models.Uses) (int64, error) {
			calls++
			return 0, errors.New("refused")
		})})
		for i := range 400 {
			r.Record(use(fmt.Sprintf("key %03d", i)))
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if calls > maxRefused+1 || r.Dropped() == 0 {
			t.Errorf("asked %d times by one flush, %d dropped", calls, r.Dropped())
		}
		time.Sleep(10 * time.Minute)
		if r.Dropped() != 400 {
			t.Errorf("%d of 400 dropped", r.Dropped())
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// Requests that the sink leaves out are counted as dropped.
func TestSinkLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Sink: sinkFunc(func(models.Uses) (int64, error) { return 2, nil })})
		for range 3 {
			r.Record(use("a"))
		}
		if err := r.Close(t.Context()); err != nil || r.Dropped() != 2 {
			t.Errorf("%d dropped, %v", r.Dropped(), err)
		}
	})
}
