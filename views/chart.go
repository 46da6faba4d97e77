package views

import (
	"fmt"
	"strings"
	"time"
)

// Day counts the requests with a key on one UTC day. At is any instant of the
// day.
type Day struct {
	At                time.Time
	Accepted, Refused int64
}

func (d Day) total() int64 { return d.Accepted + d.Refused }

// title says what the bar of the day shows.
func (d Day) title() string {
	return fmt.Sprintf("%s: %s accepted, %s refused", Date(d.At).Text, Number(d.Accepted), Number(d.Refused))
}

// InWords says how many requests there were on the day, and how many of them
// were refused where any was.
func (d Day) InWords() string { return d.inWords("") }

func (d Day) inWords(period string) string {
	text := "No requests"
	if n := d.total(); n > 0 {
		text = count(int(n), "request")
	}
	text += period
	if d.Refused > 0 {
		text += ", " + Number(d.Refused) + " refused"
	}
	return text
}

// sum adds the counts of all days up. It has no date.
func sum(days []Day) (all Day) {
	for _, d := range days {
		all.Accepted += d.Accepted
		all.Refused += d.Refused
	}
	return all
}

// busiest is the day with the most requests, the first of several.
func busiest(days []Day) (most Day) {
	for _, d := range days {
		if d.total() > most.total() {
			most = d
		}
	}
	return most
}

// totalInWords says how many requests there were in all days.
func totalInWords(days []Day) string {
	return sum(days).inWords(" in the last " + count(len(days), "day"))
}

// summary says in one sentence what a chart of days shows.
func summary(days []Day) string {
	return totalInWords(days) + ". Most on " + busiest(days).title() + "."
}

// sparkPoints draws the requests of each day as a line in a box of w by h, for
// a polyline.
func sparkPoints(days []Day, w, h float64) string {
	top := float64(max(1, busiest(days).total()))
	var b strings.Builder
	for i, d := range days {
		x := w * float64(i) / float64(max(1, len(days)-1))
		y := h - 2 - (h-4)*float64(d.total())/top
		fmt.Fprintf(&b, "%.1f,%.1f ", x, y)
	}
	return strings.TrimSpace(b.String())
}

// bar is one day of a chart: the accepted requests, and the refused ones on top
// of them.
type bar struct {
	Title             string
	X, Width          string
	Accepted, Refused segment
}

// segment is a part of a bar. Height is "" where there is nothing to draw.
type segment struct{ Y, Height string }

// bars draws days as columns on a scale that ends at top, oldest left. All
// lengths are percentages of the plot.
func bars(days []Day, top int64) []bar {
	list := make([]bar, len(days))
	slot := 100 / float64(len(days))
	for i, d := range days {
		accepted, refused := height(d.Accepted, top), height(d.Refused, top)
		if over := accepted + refused - 100; over > 0 { // for what is drawn taller than it is
			if accepted > refused {
				accepted -= over
			} else {
				refused -= over
			}
		}
		list[i] = bar{
			Title: d.title(), X: percent((float64(i) + .14) * slot), Width: percent(.72 * slot),
			Accepted: segmentOf(100-accepted, accepted), Refused: segmentOf(100-accepted-refused, refused),
		}
	}
	return list
}

// height is n on a scale that ends at top. One request among many is drawn tall
// enough to be seen.
func height(n, top int64) float64 {
	if n == 0 {
		return 0
	}
	return max(2, 100*float64(n)/float64(top))
}

func segmentOf(y, height float64) segment {
	if height == 0 {
		return segment{}
	}
	return segment{Y: percent(y), Height: percent(height)}
}

func percent(f float64) string { return fmt.Sprintf("%.2f%%", f) }

// scaleTop is the round number at which the scale of a chart with n at most
// ends. Half of it is whole, except of 1.
func scaleTop(n int64) int64 {
	for unit := int64(1); unit <= 1e17; unit *= 10 {
		for _, m := range []int64{1, 2, 4, 6, 8} {
			if n <= m*unit {
				return m * unit
			}
		}
	}
	return n
}
