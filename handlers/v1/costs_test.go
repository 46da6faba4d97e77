package v1

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/models/keytext"
)

// costsDouble answers with days as the store would, and keeps what it was asked.
type costsDouble struct {
	Store
	days    []models.DailyCost
	err     error
	account string
	filter  models.CostFilter
}

func (d *costsDouble) DailyCosts(_ context.Context, accountID string, f models.CostFilter) ([]models.DailyCost, error) {
	d.account, d.filter = accountID, f
	chosen := slices.DeleteFunc(slices.Clone(d.days), func(c models.DailyCost) bool { return c.Day < f.From || c.Day > f.To })
	return chosen, d.err
}

// testNow is a Thursday.
var testNow = time.Date(2025, 11, 6, 23, 59, 59, 0, time.UTC)

// getCosts calls GET /v1/costs?query and returns the answer's data.
func getCosts(store *costsDouble, mode keytext.Mode, query string) (string, error) {
	api := New(store, nil, func() time.Time { return testNow })
	answer := httptest.NewRecorder()
	c := echo.New().NewContext(httptest.NewRequest("GET", "/v1/costs?"+query, nil), answer)
	SetPrincipal(c, models.Principal{AccountID: "acct_1", Mode: mode})
	if err := api.Costs(c); err != nil {
		return "", err
	}
	var body struct{ Data json.RawMessage }
	err := json.Unmarshal(answer.Body.Bytes(), &body)
	return string(body.Data), err
}

func day(t *testing.T, s string) models.Day {
	t.Helper()
	d, err := models.ParseDay(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCosts(t *testing.T) {
	reported := func(d string, cost, minutes models.Decimal) models.DailyCost {
		return models.DailyCost{Day: day(t, d), Cost: cost, Minutes: minutes}
	}
	ran := func(d string, cost, minutes models.Decimal, runs int64) models.DailyCost {
		return models.DailyCost{Day: day(t, d), Cost: cost, Minutes: minutes, Runs: runs, HasRuns: true}
	}
	november := []models.DailyCost{
		reported("2025-11-01", 129_920, 1547*models.One), reported("2025-11-02", 166_400, 1877*models.One), reported("2025-11-03", 780_880, 9743*models.One),
	}
	for _, test := range []struct {
		name, query string
		days        []models.DailyCost
		want        string
	}{
		{
			"report alone", "start_date=2025-11-01&end_date=2025-11-03", november,
			`{"total_cost":107.72,"total_runs":null,"total_minutes":13167,"costs":[
			{"date":"2025-11-01","cost":12.99,"runs":null,"minutes":1547},{"date":"2025-11-02","cost":16.64,"runs":null,"minutes":1877},
			{"date":"2025-11-03","cost":78.09,"runs":null,"minutes":9743}]}`,
		},
		{
			"empty days", "start_date=2025-11-03&end_date=2025-11-04", november,
			`{"total_cost":78.09,"total_runs":null,"total_minutes":9743,"costs":[
			{"date":"2025-11-03","cost":78.09,"runs":null,"minutes":9743},{"date":"2025-11-04","cost":0.00,"runs":0,"minutes":0}]}`,
		},
		{
			"one empty day", "start_date=2025-11-05&end_date=2025-11-05", november,
			`{"total_cost":0.00,"total_runs":0,"total_minutes":0,"costs":[{"date":"2025-11-05","cost":0.00,"runs":0,"minutes":0}]}`,
		},
		{
			"runs known of some", "start_date=2025-11-01&end_date=2025-11-02&unknown=1",
			[]models.DailyCost{reported("2025-11-01", 10_000, 5_000), ran("2025-11-02", 5_000, 5_000, 7)},
			`{"total_cost":1.50,"total_runs":7,"total_minutes":1,"costs":[
			{"date":"2025-11-01","cost":1.00,"runs":null,"minutes":1},{"date":"2025-11-02","cost":0.50,"runs":7,"minutes":1}]}`,
		},
		{
			"rounded from the exact sum", "start_date=2025-11-01&end_date=2025-11-03",
			[]models.DailyCost{
				reported("2025-11-01", 40, 4_000), reported("2025-11-02", 40, 4_000), reported("2025-11-03", 40, 4_000),
			},
			`{"total_cost":0.01,"total_runs":null,"total_minutes":1,"costs":[
			{"date":"2025-11-01","cost":0.00,"runs":null,"minutes":0},{"date":"2025-11-02","cost":0.00,"runs":null,"minutes":0},
			{"date":"2025-11-03","cost":0.00,"runs":null,"minutes":0}]}`,
		},
		{
			"weeks", "start_date=2025-11-01&end_date=2025-11-10&granularity=week", november,
			`{"total_cost":107.72,"total_runs":null,"total_minutes":13167,"costs":[
			{"date":"2025-10-27","cost":29.63,"runs":null,"minutes":3424},{"date":"2025-11-03","cost":78.09,"runs":null,"minutes":9743},
			{"date":"2025-11-10","cost":0.00,"runs":0,"minutes":0}]}`,
		},
		{
			"months", "start_date=2025-10-31&end_date=2025-12-01&granularity=month", november,
			`{"total_cost":107.72,"total_runs":null,"total_minutes":13167,"costs":[
			{"date":"2025-10-01","cost":0.00,"runs":0,"minutes":0},{"date":"2025-11-01","cost":107.72,"runs":null,"minutes":13167},
			{"date":"2025-12-01","cost":0.00,"runs":0,"minutes":0}]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := getCosts(&costsDouble{days: test.days}, keytext.Live, test.query)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("\n", "", "\t", "").Replace(test.want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCostsAsks(t *testing.T) {
	today := models.DayOf(testNow)
	for _, test := range []struct {
		query string
		want  models.CostFilter
	}{
		{"", models.CostFilter{From: today - 7, To: today}},
		{"end_date=2025-11-01", models.CostFilter{From: today - 7, To: day(t, "2025-11-01")}},
		{"start_date=2024-11-06", models.CostFilter{From: day(t, "2024-11-06"), To: today}},
		{"start_date=2025-11-06&end_date=2025-11-06&granularity=day", models.CostFilter{From: today, To: today}},
		{"org=A+B&repo=api&workflow=ci.yml", models.CostFilter{From: today - 7, To: today, Organization: "A B", Repository: "api", Workflow: "ci.yml"}},
		{"repo=acme/api", models.CostFilter{From: today - 7, To: today, Organization: "acme", Repository: "api"}},
		{"org=other&repo=acme/api", models.CostFilter{From: today - 7, To: today, Organization: "other", Repository: "acme/api"}},
	} {
		store := &costsDouble{}
		if _, err := getCosts(store, keytext.Live, test.query); err != nil {
			t.Errorf("%q: %v", test.query, err)
		}
		if diff := cmp.Diff(test.want, store.filter); diff != "" || store.account != "acct_1" {
			t.Errorf("%q asks for account %q:\n%s", test.query, store.account, diff)
		}
	}
}

func TestCostsRefuses(t *testing.T) {
	for _, test := range []struct{ query, field, message string }{
		{"start_date=2025-11-03&end_date=2025-11-02", "start_date", "start_date must be before end_date"},
		{"start_date=2025-11-07", "start_date", "start_date must be before end_date"},
		{"start_date=2024-11-05", "start_date", "start_date and end_date must not span more than 366 days"},
		{"start_date=0000-01-01&end_date=9999-12-31", "start_date", "start_date and end_date must not span more than 366 days"},
		{"start_date=yesterday", "start_date", "start_date must be a date as YYYY-MM-DD"},
		{"start_date=", "start_date", "start_date must be a date as YYYY-MM-DD"},
		{"end_date=2025-02-30", "end_date", "end_date must be a date as YYYY-MM-DD"},
		{"end_date=2025-11-1", "end_date", "end_date must be a date as YYYY-MM-DD"},
		{"granularity=hour", "granularity", "granularity must be day, week or month"},
		{"granularity=", "granularity", "granularity must be day, week or month"},
		{"granularity=Day", "granularity", "granularity must be day, week or month"},
		{"org=a&org=b", "org", "org must be given once"},
		{"repo=%ff", "repo", "repo must be text in UTF-8"},
		{"workflow=%00", "workflow", "workflow must be text in UTF-8"},
	} {
		_, err := getCosts(&costsDouble{err: errors.New("was asked")}, keytext.Live, test.query)
		want := &models.Error{Code: models.CodeInvalidParameter, Field: test.field, Message: test.message}
		if got, ok := errors.AsType[*models.Error](err); !ok || *got != *want {
			t.Errorf("%q: %v, want %v", test.query, err, want)
		}
	}
	if _, err := getCosts(&costsDouble{}, keytext.Live, "org=%zz"); models.CodeOf(err) != models.CodeInvalidRequest {
		t.Errorf("a malformed query: %v", err)
	}
	broken := models.Unavailable(errors.New("down"))
	if _, err := getCosts(&costsDouble{err: broken}, keytext.Live, ""); err != broken {
		t.Errorf("an outage: %v", err)
	}
}

func TestCostsOfTestKeys(t *testing.T) {
	store := &costsDouble{err: errors.New("a test key saw live data")}
	get := func(query string) costsAnswer {
		t.Helper()
		data, err := getCosts(store, keytext.Test, query)
		if err != nil {
			t.Fatal(err)
		}
		var a costsAnswer
		if err := json.Unmarshal([]byte(data), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	week := get("")
	if len(week.Costs) != 8 || week.Cost <= 0 || week.Runs == nil || *week.Runs == 0 || week.Minutes == 0 {
		t.Errorf("%+v", week)
	}
	if again := get(url.Values{"org": {"sample-org"}}.Encode()); !cmp.Equal(week, again) {
		t.Errorf("the sample organization alone: %s", cmp.Diff(week, again))
	}
	if one := get("repo=web-frontend&workflow=ci.yml"); one.Cost <= 0 || one.Cost >= week.Cost {
		t.Errorf("one workflow costs %v of %v", one.Cost, week.Cost)
	}
	if none := get("org=my-company"); none.Cost != 0 || none.Runs == nil || *none.Runs != 0 || len(none.Costs) != 8 {
		t.Errorf("another organization: %+v", none)
	}
}

type costsAnswer struct {
	Cost    float64 `json:"total_cost"`
	Runs    *int64  `json:"total_runs"`
	Minutes int64   `json:"total_minutes"`
	Costs   []struct {
		Date string
		Cost float64
		Runs *int64
	}
}
