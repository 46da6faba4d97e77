package v1

import (
	"context"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/sample"
)

type costStore interface {
	DailyCosts(ctx context.Context, accountID string, f models.CostFilter) ([]models.DailyCost, error)
}

// money is written as a number with two decimals.
type money models.Decimal

// MarshalJSON implements json.Marshaler.
func (m money) MarshalJSON() ([]byte, error) { return []byte(models.Decimal(m).String()), nil }

// costsResponse has a null for runs where usage reports alone supplied the costs; total_runs adds up those that are known
// and is null where none is. Minutes are whole ones, rounded from the exact sum.
type costsResponse struct {
	TotalCost    money        `json:"total_cost"`
	TotalRuns    *int64       `json:"total_runs"`
	TotalMinutes int64        `json:"total_minutes"`
	Costs        []costBucket `json:"costs"`
}

type costBucket struct {
	Date    string `json:"date"`
	Cost    money  `json:"cost"`
	Runs    *int64 `json:"runs"`
	Minutes int64  `json:"minutes"`
}

// Costs answers GET /v1/costs: what the account spent a day, week or month, the sample data's for a test key.
func (a *API) Costs(c echo.Context) error {
	p, today := principalOf(c), models.DayOf(a.now())
	q, err := parseCostsQuery(c.Request().URL.RawQuery, today)
	if err != nil {
		return err
	}
	if p.Mode == keytext.Test {
		return a.respond(c, q.respond(sample.DailyCosts(p.AccountID, today, q.filter)))
	}
	days, err := a.store.DailyCosts(c.Request().Context(), p.AccountID, q.filter)
	if err != nil {
		return err
	}
	return a.respond(c, q.respond(days))
}

type costsQuery struct {
	filter models.CostFilter
	bucket func(models.Day) models.Day // the first day of the bucket that a day falls into
}

// maxSpan is how many days a query may cover.
const maxSpan = 366

func parseCostsQuery(raw string, today models.Day) (q costsQuery, err error) {
	p, err := readParameters(raw, "start_date", "end_date", "org", "repo", "workflow", "granularity")
	if err != nil {
		return q, err
	}
	f := &q.filter
	if f.From, err = p.day("start_date", today-models.DefaultCostDays); err != nil {
		return q, err
	}
	if f.To, err = p.day("end_date", today); err != nil {
		return q, err
	}
	switch {
	case f.From > f.To:
		return q, invalidParameter("start_date", "start_date must be before end_date")
	case f.To-f.From >= maxSpan:
		return q, invalidParameter("start_date", "start_date and end_date must not span more than 366 days")
	}
	f.Organization, f.Repository, f.Workflow = p["org"], p["repo"], p["workflow"]
	if owner, name, ok := strings.Cut(f.Repository, "/"); ok && (f.Organization == "" || strings.EqualFold(f.Organization, owner)) {
		f.Organization, f.Repository = owner, name
	}
	granularity, given := p["granularity"]
	if !given {
		granularity = "day"
	}
	if q.bucket = buckets[granularity]; q.bucket == nil {
		return q, invalidParameter("granularity", "granularity must be day, week or month")
	}
	return q, nil
}

// buckets has the first day of what a day falls into, by granularity.
var buckets = map[string]func(models.Day) models.Day{
	"day": func(d models.Day) models.Day { return d },
	"week": func(d models.Day) models.Day {
		sinceMonday := (int(d.Time().Weekday()) + 6) % 7
		return d - models.Day(sinceMonday)
	},
	"month": func(d models.Day) models.Day { return d - models.Day(d.Time().Day()-1) },
}

// respond adds days, which are in order, up to buckets, with zeros where there are none.
func (q costsQuery) respond(days []models.DailyCost) costsResponse {
	res := costsResponse{Costs: []costBucket{}}
	var total, sum costSum
	for day := q.filter.From; day <= q.filter.To; day++ {
		for len(days) > 0 && days[0].Day <= day {
			sum.add(days[0])
			total.add(days[0])
			days = days[1:]
		}
		if first := q.bucket(day); day == q.filter.To || q.bucket(day+1) != first {
			res.Costs = append(res.Costs, costBucket{first.String(), money(sum.cost), sum.knownRuns(), sum.minutes.Whole()})
			sum = costSum{}
		}
	}
	res.TotalCost, res.TotalRuns, res.TotalMinutes = money(total.cost), total.knownRuns(), total.minutes.Whole()
	return res
}

// costSum adds days up.
type costSum struct {
	cost, minutes     models.Decimal
	runs              int64
	known, reportOnly bool // whether some day had its runs, and some had none
}

func (s *costSum) add(d models.DailyCost) {
	s.cost += d.Cost
	s.minutes += d.Minutes
	s.runs += d.Runs
	s.known = s.known || d.HasRuns
	s.reportOnly = s.reportOnly || !d.HasRuns
}

// knownRuns returns nil where reports alone supplied the costs. Where nothing did, there were no runs.
func (s *costSum) knownRuns() *int64 {
	if s.reportOnly && !s.known {
		return nil
	}
	runs := s.runs // s is used again
	return &runs
}

// parameters are the query parameters that an endpoint knows, as far as they are given.
type parameters map[string]string

// readParameters leaves out parameters not in known, and refuses one that is given twice, since either value might be the
// one that is meant.
func readParameters(raw string, known ...string) (parameters, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, &models.Error{Code: models.CodeInvalidRequest, Message: "The query string is malformed", Err: err}
	}
	p := parameters{}
	for _, name := range known {
		values := query[name]
		switch {
		case len(values) == 0:
			continue
		case len(values) > 1:
			return nil, invalidParameter(name, name+" must be given once")
		case !utf8.ValidString(values[0]) || strings.ContainsRune(values[0], 0):
			return nil, invalidParameter(name, name+" must be text in UTF-8")
		}
		p[name] = values[0]
	}
	return p, nil
}

// day returns the parameter's date, or absent where it is not given.
func (p parameters) day(name string, absent models.Day) (models.Day, error) {
	text, given := p[name]
	if !given {
		return absent, nil
	}
	d, err := models.ParseDay(text)
	if err != nil {
		return 0, invalidParameter(name, name+" must be a date as YYYY-MM-DD")
	}
	return d, nil
}
