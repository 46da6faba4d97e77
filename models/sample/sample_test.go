package sample

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

const account = "acct_ABCDEFGHIJKLMNOPQRSTUV"

var today = models.DayOf(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC))

var always = models.CostFilter{From: 0, To: 1_000_000}

func TestShape(t *testing.T) {
	repositories := map[string]bool{}
	for _, w := range Workflows() {
		repositories[w.Repository] = true
	}
	if len(Workflows()) != 9 || len(repositories) != 4 {
		t.Errorf("%d workflows in %d repositories", len(Workflows()), len(repositories))
	}
	days := DailyCosts(account, today, always)
	if len(days) != Days || days[0].Day != today-Days+1 || days[Days-1].Day != today {
		t.Errorf("%d days, %v to %v", len(days), days[0].Day, days[len(days)-1].Day)
	}
	var weekday, weekend models.Decimal
	for _, d := range days {
		if !d.HasRuns || d.Runs < 9 || d.Cost <= 0 || d.Minutes <= 0 {
			t.Errorf("%+v", d)
		}
		switch {
		case isSpike(account, d.Day):
		case d.Day.Time().Weekday() == time.Saturday || d.Day.Time().Weekday() == time.Sunday:
			weekend = max(weekend, d.Cost)
		case weekday == 0 || d.Cost < weekday:
			weekday = d.Cost
		}
	}
	if weekday <= weekend {
		t.Errorf("the quietest weekday costs %s, the busiest day of a weekend %s", weekday, weekend)
	}
}

// TestStable pins two days, so that no change of the program changes what a test key has been told.
func TestStable(t *testing.T) {
	got := DailyCosts(account, today, models.CostFilter{From: today - 1, To: today})
	want := []models.DailyCost{
		{Day: today - 1, Cost: 97_900, Minutes: 627 * models.One, Runs: 80, HasRuns: true},
		{Day: today, Cost: 147_900, Minutes: 725 * models.One, Runs: 90, HasRuns: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(DailyCosts(account, today, always)[10:], DailyCosts(account, today+10, always)[:Days-10]); diff != "" {
		t.Errorf("days change as time goes by:\n%s", diff)
	}
	if cmp.Equal(DailyCosts(account, today, always), DailyCosts(account+"x", today, always)) {
		t.Error("two accounts have the same data")
	}
}

// TestSpike looks at every day that could be today.
func TestSpike(t *testing.T) {
	for last := today; last < today+60; last++ {
		month := DailyCosts(account, last, models.CostFilter{From: last - 29, To: last})
		slices.SortFunc(month, func(a, b models.DailyCost) int { return int(b.Cost - a.Cost) })
		if month[0].Cost < 2*month[1].Cost {
			t.Errorf("up to %s: the dearest day costs %s, the next %s", last, month[0].Cost, month[1].Cost)
		}
	}
}

func TestFilter(t *testing.T) {
	all := DailyCosts(account, today, always)
	var sum models.Decimal
	for _, name := range []string{"api-service", "infrastructure", "mobile-app", "web-frontend"} {
		f := always
		f.Organization, f.Repository = "Sample-Org", name
		days := DailyCosts(account, today, f)
		if len(days) != Days {
			t.Errorf("%s: %d days", name, len(days))
		}
		for _, d := range days {
			sum += d.Cost
		}
	}
	for _, d := range all {
		sum -= d.Cost
	}
	if sum != 0 {
		t.Errorf("the repositories differ from the whole by %s", sum)
	}
	for name, f := range map[string]models.CostFilter{
		"other organization": {From: 0, To: today, Organization: "my-company"},
		"no such workflow":   {From: 0, To: today, Workflow: "no.yml"},
		"too early":          {From: 0, To: today - Days},
		"future":             {From: today + 1, To: today + 9},
		"none":               {From: today, To: today - 1},
	} {
		if got := DailyCosts(account, today, f); len(got) > 0 {
			t.Errorf("%s: %d days", name, len(got))
		}
	}
}
