// Package sample makes up the data that test keys work on: one organization whose costs look real. It is the same on
// every replica and at every call, since it comes from the account's id and the day alone. No I/O, no clock.
package sample

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"cicosts/models"
)

// Organization is the only one there is.
const Organization = "sample-org"

// Days is how many days, the last of them today, have data.
const Days = 120

// Workflow is one of the workflows that run every day.
type Workflow struct {
	Repository string
	Path       string
	Runner     string
	price      models.Decimal // USD a minute
	runs       int            // on a usual weekday
	minutes    int            // of a usual run
}

// Workflows returns all of them, in the order of repository and path.
func Workflows() []Workflow {
	return []Workflow{
		{"api-service", ".github/workflows/ci.yml", "linux", 60, 24, 9},
		{"api-service", ".github/workflows/deploy.yml", "linux", 60, 6, 5},
		{"api-service", ".github/workflows/load-test.yml", "linux_8_core", 220, 2, 34},
		{"infrastructure", ".github/workflows/apply.yml", "linux", 60, 3, 8},
		{"infrastructure", ".github/workflows/plan.yml", "linux", 60, 9, 4},
		{"mobile-app", ".github/workflows/ios.yml", "macos", 620, 7, 18},
		{"mobile-app", ".github/workflows/lint.yml", "linux", 60, 14, 3},
		{"web-frontend", ".github/workflows/ci.yml", "linux", 60, 18, 7},
		{"web-frontend", ".github/workflows/windows.yml", "windows", 100, 4, 12},
	}
}

// A spike comes every spikeEvery days, so that the last month always has one: the busiest workflow then runs on machines
// of spikePrice a minute.
const (
	spikeEvery = 30
	spikePrice = 2520 // 64 cores
)

// Use is what a workflow used in a day.
type Use struct {
	Workflow
	Runs    int64
	Minutes models.Decimal
	Cost    models.Decimal
}

// UseOf returns what every workflow used on the day, in the order of Workflows. The days that have data are the caller's
// business.
func UseOf(accountID string, day models.Day) []Use {
	workflows := Workflows()
	uses := make([]Use, len(workflows))
	spike := isSpike(accountID, day)
	for i, w := range workflows {
		if spike && i == 0 {
			w.Runner, w.price = "linux_64_core", spikePrice
		}
		r := newDice(accountID, day, w)
		usual := w.runs
		if weekday := day.Time().Weekday(); (weekday == time.Saturday || weekday == time.Sunday) && !(spike && i == 0) {
			usual = (usual + 3) / 4
		}
		runs := r.around(usual)
		minutes := 0
		for range runs {
			minutes += r.around(w.minutes)
		}
		uses[i] = Use{w, int64(runs), models.Decimal(minutes) * models.One, models.Decimal(minutes) * w.price}
	}
	return uses
}

func isSpike(accountID string, day models.Day) bool {
	r := newDice(accountID, 0, Workflow{})
	return int(day)%spikeEvery == r.below(spikeEvery)
}

// DailyCosts returns the account's sample costs that f chooses, added up by day, in order. Every day up to today that is
// not too old has costs, unless f's names choose nothing.
func DailyCosts(accountID string, today models.Day, f models.CostFilter) []models.DailyCost {
	var days []models.DailyCost
	for day := max(f.From, today-Days+1); day <= min(f.To, today); day++ {
		sum, chosen := models.DailyCost{Day: day, HasRuns: true}, false
		for _, u := range UseOf(accountID, day) {
			if f.Matches(Organization, u.Repository, u.Path) {
				sum.Runs, sum.Minutes, sum.Cost, chosen = sum.Runs+u.Runs, sum.Minutes+u.Minutes, sum.Cost+u.Cost, true
			}
		}
		if chosen {
			days = append(days, sum)
		}
	}
	return days
}

// dice are numbers that look random and are not (SplitMix64). The standard library's do not promise to stay the same.
type dice struct{ state uint64 }

func newDice(accountID string, day models.Day, w Workflow) *dice {
	seed := sha256.Sum256([]byte(accountID + "\x00" + day.String() + "\x00" + w.Repository + "\x00" + w.Path))
	return &dice{binary.BigEndian.Uint64(seed[:])}
}

// below returns a number from 0 to n-1.
func (d *dice) below(n int) int {
	d.state += 0x9e3779b97f4a7c15
	z := d.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(n))
}

// around returns a number within 30 % of n, and at least 1.
func (d *dice) around(n int) int {
	spread := n * 3 / 10
	return max(1, n-spread+d.below(2*spread+1))
}
