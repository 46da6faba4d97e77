package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

const ciYML = ".github/workflows/ci.yml"

// mustHaveAccount makes an account with an owner and returns its id.
func mustHaveAccount(t *testing.T, st *store.Store, name string) string {
	t.Helper()
	v, err := st.AddUser(t.Context(), models.Operator, models.NewUser{Email: name + "@example.com", PasswordHash: "x", Account: name, Role: models.RoleOwner})
	if err != nil {
		t.Fatal(err)
	}
	return v.AccountID
}

func report(rows ...models.ReportRow) iter.Seq2[models.ReportRow, error] {
	return func(yield func(models.ReportRow, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// used is a row of the acme organization.
func used(day models.Day, repository, workflow string, minutes, cost models.Decimal) models.ReportRow {
	return models.ReportRow{Day: day, Organization: "acme", Repository: repository, Workflow: workflow, Runner: "linux", Minutes: minutes * models.One, Cost: cost}
}

func mustReplace(t *testing.T, st *store.Store, account string, rows ...models.ReportRow) {
	t.Helper()
	if _, err := st.ReplaceReport(t.Context(), models.Operator, account, "report.csv", report(rows...)); err != nil {
		t.Fatal(err)
	}
}

// daily returns day, cost and whole minutes of everything the filter chooses.
func daily(t *testing.T, st *store.Store, account string, f models.CostFilter) [][3]int64 {
	t.Helper()
	if f.To == 0 {
		f.From, f.To = 0, 1_000_000
	}
	days, err := st.DailyCosts(t.Context(), account, f)
	if err != nil {
		t.Fatal(err)
	}
	var got [][3]int64
	for _, d := range days {
		if d.HasRuns || d.Runs != 0 {
			t.Errorf("%s has runs", d.Day)
		}
		got = append(got, [3]int64{int64(d.Day), int64(d.Cost), d.Minutes.Whole()})
	}
	return got
}

func TestReplaceReport(t *testing.T) {
	first := []models.ReportRow{
		used(100, "api", ciYML, 2, 160), used(100, "api", ciYML, 3, 240), used(100, "web", ciYML, 10, 800), used(101, "api", ciYML, 1, 80),
	}
	for _, test := range []struct {
		name   string
		second []models.ReportRow
		want   [][3]int64
	}{
		{"nothing", nil, [][3]int64{{100, 1200, 15}, {101, 80, 1}}},
		{"the same", first, [][3]int64{{100, 1200, 15}, {101, 80, 1}}},
		{"summarized", []models.ReportRow{used(100, "api", "", 5, 400)}, [][3]int64{{100, 1200, 15}, {101, 80, 1}}},
		{"names in other case", []models.ReportRow{
			{Day: 100, Organization: "ACME", Repository: "Api", Runner: "linux", Minutes: models.One, Cost: 7},
		}, [][3]int64{{100, 807, 11}, {101, 80, 1}}},
		{"other organization", []models.ReportRow{
			{Day: 100, Organization: "other", Repository: "api", Runner: "linux", Minutes: models.One, Cost: 7},
		}, [][3]int64{{100, 1207, 16}, {101, 80, 1}}},
		{"other day", []models.ReportRow{used(99, "api", ciYML, 1, 1)}, [][3]int64{{99, 1, 1}, {100, 1200, 15}, {101, 80, 1}}},
		{"cost corrected", []models.ReportRow{used(101, "api", ciYML, 1, 81)}, [][3]int64{{100, 1200, 15}, {101, 81, 1}}},
		{"minutes corrected", []models.ReportRow{used(101, "api", ciYML, 2, 80)}, [][3]int64{{100, 1200, 15}, {101, 80, 2}}},
		{"workflow corrected", []models.ReportRow{used(101, "api", "other.yml", 4, 5)}, [][3]int64{{100, 1200, 15}, {101, 5, 4}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, st *store.Store) {
				account, other := mustHaveAccount(t, st, "one"), mustHaveAccount(t, st, "two")
				mustReplace(t, st, account, first...)
				mustReplace(t, st, other, first...)
				mustReplace(t, st, account, test.second...)
				if diff := cmp.Diff(test.want, daily(t, st, account, models.CostFilter{})); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([][3]int64{{100, 1200, 15}, {101, 80, 1}}, daily(t, st, other, models.CostFilter{})); diff != "" {
					t.Errorf("the other account changed:\n%s", diff)
				}
			})
		})
	}
}

// TestReplaceReportTotals reads more rows than one statement takes.
func TestReplaceReportTotals(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		account := mustHaveAccount(t, st, "one")
		var rows []models.ReportRow
		for i := range 1234 {
			rows = append(rows, used(models.Day(100+i%3), fmt.Sprint("r", i%50), ciYML, 1, 80))
		}
		totals, err := st.ReplaceReport(t.Context(), models.Operator, account, "report.csv", report(rows...))
		want := models.ReportTotals{Rows: 1234, First: 100, Last: 102, Minutes: 1234 * models.One, Cost: 1234 * 80}
		if err != nil || totals != want {
			t.Errorf("%+v, %v, want %+v", totals, err, want)
		}
		if diff := cmp.Diff([][3]int64{{100, 412 * 80, 412}, {101, 411 * 80, 411}, {102, 411 * 80, 411}}, daily(t, st, account, models.CostFilter{})); diff != "" {
			t.Error(diff)
		}
	})
}

func TestReplaceReportFails(t *testing.T) {
	bad := errors.New("line 3 is bad")
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		account := mustHaveAccount(t, st, "one")
		mustReplace(t, st, account, used(100, "api", ciYML, 1, 80))
		before, err := st.History(t.Context(), account, account)
		if err != nil {
			t.Fatal(err)
		}

		half := func(yield func(models.ReportRow, error) bool) {
			_ = yield(used(100, "api", ciYML, 9, 9), nil) && yield(models.ReportRow{}, bad)
		}
		if _, err := st.ReplaceReport(t.Context(), models.Operator, account, "report.csv", half); err != bad {
			t.Errorf("a bad row: %v", err)
		}
		ended := func(yield func(models.ReportRow, error) bool) { _ = yield(models.ReportRow{}, io.ErrUnexpectedEOF) }
		if _, err := st.ReplaceReport(t.Context(), models.Operator, account, "report.csv", ended); err != io.ErrUnexpectedEOF {
			t.Errorf("a file that ends: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := func(yield func(models.ReportRow, error) bool) {
			for i := range 1000 {
				if i == 500 {
					cancel()
				}
				if !yield(used(models.Day(i), "api", ciYML, 9, 9), nil) {
					return
				}
			}
		}
		if _, err := st.ReplaceReport(ctx, models.Operator, account, "report.csv", stopped); models.CodeOf(err) != models.CodeUnavailable {
			t.Errorf("interrupted: %v", err)
		}
		if _, err := st.ReplaceReport(t.Context(), models.Operator, "acct_none", "report.csv", report(used(1, "a", "b", 1, 1))); err == nil {
			t.Error("an unknown account was imported to")
		}

		if diff := cmp.Diff([][3]int64{{100, 80, 1}}, daily(t, st, account, models.CostFilter{})); diff != "" {
			t.Error(diff)
		}
		after, err := st.History(t.Context(), account, account)
		if err != nil || len(after) != len(before) {
			t.Errorf("the history grew from %d to %d lines, %v", len(before), len(after), err)
		}
		mustReplace(t, st, account, used(100, "api", ciYML, 2, 160))
	})
}

// TestReplaceReportReads makes a change while the report is being read, as a pipe may take its time.
func TestReplaceReportReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		account := mustHaveAccount(t, st, "one")
		rows := func(yield func(models.ReportRow, error) bool) {
			for i := range 1000 {
				if i == 500 {
					mustHaveAccount(t, st, "meanwhile")
				}
				if !yield(used(models.Day(i), "api", ciYML, 1, 1), nil) {
					return
				}
			}
		}
		if _, err := st.ReplaceReport(t.Context(), models.Operator, account, "report.csv", rows); err != nil {
			t.Error(err)
		}
	})
}

func TestReplaceReportHistory(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		account := mustHaveAccount(t, st, "one")
		mustReplace(t, st, account, used(20393, "api", ciYML, 1, 80), used(20395, "api", ciYML, 1, 80))
		events, err := st.History(t.Context(), account, account)
		if err != nil || len(events) != 1 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		e := events[0]
		if e.Action != models.ActionImported || e.ActorType != models.ActorOperator || e.At.IsZero() ||
			e.Detail != "report.csv: 2 rows, 2025-11-01 to 2025-11-03, 0.02 USD" {
			t.Errorf("%+v", e)
		}
	})
}

func TestDailyCostsFilter(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		account := mustHaveAccount(t, st, "one")
		mustReplace(
			t, st, account,
			used(100, "API", ciYML, 1, 1), used(100, "web", ".github/workflows/release_ci.yml", 1, 10),
			used(101, "web", "dynamic/x/100%.yml", 1, 100), used(102, "web", "ci.yml", 1, 1_000),
			models.ReportRow{Day: 102, Organization: "Other", Repository: "api", Workflow: "ü/ci.yml", Minutes: 1, Cost: 10_000},
			models.ReportRow{Day: 103, Minutes: 1, Cost: 100_000},
		)
		for _, test := range []struct {
			name   string
			filter models.CostFilter
			want   models.Decimal
		}{
			{"all", models.CostFilter{}, 111_111},
			{"days", models.CostFilter{From: 101, To: 102}, 11_100},
			{"one day", models.CostFilter{From: 100, To: 100}, 11},
			{"organization", models.CostFilter{Organization: "OTHER"}, 10_000},
			{"repository", models.CostFilter{Repository: "api"}, 10_001},
			{"both", models.CostFilter{Organization: "acme", Repository: "Api"}, 1},
			{"file name", models.CostFilter{Workflow: "ci.yml"}, 11_001},
			{"path", models.CostFilter{Workflow: ciYML}, 1},
			{"part of a path", models.CostFilter{Workflow: "workflows/ci.yml"}, 0},
			{"wildcards", models.CostFilter{Workflow: "100%.yml"}, 100},
			{"wildcard", models.CostFilter{Workflow: "%.yml"}, 0},
			{"underscore", models.CostFilter{Workflow: "release.ci.yml"}, 0},
			{"other case", models.CostFilter{Workflow: "CI.yml"}, 0},
			{"quote", models.CostFilter{Organization: "'; DROP TABLE report_costs; --"}, 0},
		} {
			var sum models.Decimal
			for _, d := range daily(t, st, account, test.filter) {
				sum += models.Decimal(d[1])
			}
			if sum != test.want {
				t.Errorf("%s: %d, want %d", test.name, sum, test.want)
			}
		}
	})
}

// TestReplaceReportTwice compares the stored rows, spellings included.
func TestReplaceReportTwice(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		account := mustHaveAccount(t, st, "one")
		var rows []models.ReportRow
		for i := range 500 {
			r := used(models.Day(100+i%3), fmt.Sprint([]string{"Repo", "repo"}[i%2], i%50), ciYML, 1, models.Decimal(i))
			rows = append(rows, r, r)
		}
		mustReplace(t, st, account, rows...)
		first := reportRows(t, url)
		slices.Reverse(rows)
		mustReplace(t, st, account, rows...)
		if diff := cmp.Diff(first, reportRows(t, url)); diff != "" || len(first) == 0 {
			t.Errorf("%d rows:\n%s", len(first), diff)
		}
		for i := range rows {
			rows[i].Repository = "REPO" + rows[i].Repository[4:]
		}
		mustReplace(t, st, account, rows...)
		if again := reportRows(t, url); len(again) != len(first) || !strings.Contains(again[0], "REPO") {
			t.Errorf("the newer spelling is not kept: %d rows, first %s", len(again), again[0])
		}
	})
}

// reportRows returns the table, each row as text.
func reportRows(t *testing.T, url string) []string {
	t.Helper()
	driver := "pgx"
	if path, ok := store.SQLitePath(url); ok {
		driver, url = "sqlite", path
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found, err := db.QueryContext(t.Context(), `SELECT account_id || '|' || day || '|' || organization_folded || '|' || repository_folded || '|' || workflow || '|' || runner
		|| '|' || organization || '|' || repository || '|' || minutes || '|' || cost AS line FROM report_costs ORDER BY line`)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	var rows []string
	for found.Next() {
		var row string
		if err := found.Scan(&row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestNewestCostDay(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		account, other := mustHaveAccount(t, st, "one"), mustHaveAccount(t, st, "two")
		mustReplace(t, st, other, used(300, "api", ciYML, 1, 80))
		if _, err := st.NewestCostDay(t.Context(), account); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("without costs: %v", err)
		}
		mustReplace(t, st, account, used(100, "api", ciYML, 1, 80), used(102, "api", ciYML, 1, 80), used(101, "web", ciYML, 1, 80))
		if day, err := st.NewestCostDay(t.Context(), account); day != 102 || err != nil {
			t.Errorf("day %d, %v", day, err)
		}
	})
}
