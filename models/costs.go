package models

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Day is a UTC day as days since 1970-01-01.
type Day int

// DayOf returns the UTC day of t.
func DayOf(t time.Time) Day {
	seconds, day := t.Unix(), int64(24*60*60)
	if seconds < 0 {
		seconds -= day - 1
	}
	return Day(seconds / day)
}

// ParseDay reads YYYY-MM-DD.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	return DayOf(t), err
}

// Time returns the midnight that begins d.
func (d Day) Time() time.Time { return time.Unix(int64(d)*24*60*60, 0).UTC() }

// String returns YYYY-MM-DD.
func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// Decimal is a number in ten-thousandths: of a US dollar where it is money, of a minute where it is time. Adding Decimals
// is exact.
type Decimal int64

// One is the number 1.
const One Decimal = 10_000

// What is wrong with the text of a number.
var (
	ErrNotNumber = errors.New("is not a number")
	ErrTooLarge  = errors.New("is too large")
)

// ParseDecimal reads a decimal number such as 1.5, 0.07200000000000001 or 9.4086E-05 exactly and rounds it half up
// (away from zero) to four places. It returns ErrNotNumber or ErrTooLarge (15 digits or more before the point).
func ParseDecimal(s string) (Decimal, error) {
	n, err := parseNumber(s)
	if err != nil {
		return 0, err
	}
	return n.round()
}

// ParseProduct is ParseDecimal for the product of two numbers: it multiplies exactly and rounds once.
func ParseProduct(s, t string) (Decimal, error) {
	a, err := parseNumber(s)
	if err != nil {
		return 0, err
	}
	b, err := parseNumber(t)
	if err != nil {
		return 0, err
	}
	var x, y big.Int
	x.SetString("0"+a.digits, 10)
	y.SetString("0"+b.digits, 10)
	places := len(a.digits) - a.point + len(b.digits) - b.point
	digits := x.Mul(&x, &y).String()
	return number{a.negative != b.negative, digits, len(digits) - places}.trim().round()
}

// number is the exact value 0.DIGITS × 10^point. Digits do not begin with 0; none at all is zero.
type number struct {
	negative bool
	digits   string
	point    int
}

// longestNumber keeps hostile input from costing more than a real amount does.
const longestNumber = 60

func parseNumber(s string) (number, error) {
	var n number
	mantissa, exponent, scientific := s, "", false
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent, scientific = s[:i], s[i+1:], true
	}
	mantissa, n.negative = strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	n.digits, n.point = whole+fraction, len(whole)
	if n.digits == "" || len(s) > longestNumber || !allDigits(n.digits) {
		return number{}, ErrNotNumber
	}
	if scientific {
		e := strings.TrimPrefix(exponent, "+")
		unsigned := e
		if len(e) == len(exponent) {
			unsigned = strings.TrimPrefix(e, "-")
		}
		if unsigned == "" || len(unsigned) > 4 || !allDigits(unsigned) {
			return number{}, ErrNotNumber
		}
		shift, _ := strconv.Atoi(e) // at most four digits
		n.point += shift
	}
	return n.trim(), nil
}

func allDigits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// trim removes leading zeros.
func (n number) trim() number {
	digits := strings.TrimLeft(n.digits, "0")
	n.point -= len(n.digits) - len(digits)
	n.digits = digits
	return n
}

func (n number) round() (Decimal, error) {
	const places = 4
	keep := n.point + places // how many digits stand before the place where the number is cut
	if n.digits == "" || keep < 0 {
		return 0, nil
	}
	if keep > 18 {
		return 0, ErrTooLarge
	}
	digits := n.digits
	if len(digits) <= keep {
		digits += strings.Repeat("0", keep+1-len(digits))
	}
	d, _ := strconv.ParseInt("0"+digits[:keep], 10, 64) // at most 18 digits
	if digits[keep] >= '5' {
		d++
	}
	if n.negative {
		d = -d
	}
	return Decimal(d), nil
}

// Cents returns d in hundredths, rounded half up (away from zero).
func (d Decimal) Cents() int64 { return roundTo(int64(d), 100) }

// Whole returns d as an integer, rounded half up (away from zero).
func (d Decimal) Whole() int64 { return roundTo(int64(d), int64(One)) }

func roundTo(n, unit int64) int64 {
	q, rest := n/unit, n%unit
	switch {
	case rest >= unit/2:
		q++
	case rest <= -unit/2:
		q--
	}
	return q
}

// String returns d with two decimals, as money is shown: 107.72.
func (d Decimal) String() string {
	cents, sign := d.Cents(), ""
	if cents < 0 {
		cents, sign = -cents, "-"
	}
	text := strconv.FormatInt(cents+100, 10) // one more in front keeps the zeros
	whole := strconv.FormatInt(cents/100, 10)
	return sign + whole + "." + text[len(text)-2:]
}

// ReportRow is one row of a billing usage report: what a workflow used on a kind of runner in a day. Names are as the
// report spells them and may be empty; GitHub compares the first two without regard to case.
type ReportRow struct {
	Day          Day
	Organization string
	Repository   string // without the organization
	Workflow     string // the path, as .github/workflows/ci.yml
	Runner       string // the SKU without "actions_", as linux_4_core
	Minutes      Decimal
	Cost         Decimal // list price in USD
}

// ReportTotals is what a report came to. First and Last mean nothing where Rows is 0.
type ReportTotals struct {
	Rows        int
	First, Last Day
	Minutes     Decimal
	Cost        Decimal
}

// Add counts a row.
func (t *ReportTotals) Add(r ReportRow) {
	if t.Rows == 0 || r.Day < t.First {
		t.First = r.Day
	}
	if t.Rows == 0 || r.Day > t.Last {
		t.Last = r.Day
	}
	t.Rows++
	t.Minutes += r.Minutes
	t.Cost += r.Cost
}

// DefaultCostDays is how many days before today GET /v1/costs begins, unless it
// is told a date.
const DefaultCostDays = 7

// CostFilter chooses costs: two days, both included, and names, of which "" is any. Organization and repository are
// compared without regard to case; Workflow is a file name such as ci.yml or a whole path.
type CostFilter struct {
	From, To     Day
	Organization string
	Repository   string
	Workflow     string
}

// Matches reports whether f, its days aside, chooses what is named so.
func (f CostFilter) Matches(organization, repository, workflow string) bool {
	return (f.Organization == "" || FoldRepository(f.Organization) == FoldRepository(organization)) &&
		(f.Repository == "" || FoldRepository(f.Repository) == FoldRepository(repository)) &&
		(f.Workflow == "" || f.Workflow == workflow || strings.HasSuffix(workflow, "/"+f.Workflow) && !strings.Contains(f.Workflow, "/"))
}

// FoldRepository returns the name of an organization or repository as GitHub compares it.
func FoldRepository(name string) string { return strings.ToLower(name) }

// DailyCost is what was used in a day.
type DailyCost struct {
	Day     Day
	Cost    Decimal
	Minutes Decimal
	Runs    int64
	HasRuns bool // false: the number of runs is not known, as usage reports do not tell it
}
