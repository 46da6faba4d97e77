package views

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScaleTop(t *testing.T) {
	for n, want := range map[int64]int64{
		0: 1, 1: 1, 2: 2, 3: 4, 5: 6, 7: 8, 9: 10, 10: 10, 11: 20, 41: 60, 99: 100, 101: 200, 601: 800, 1_234_567: 2_000_000, math.MaxInt64: math.MaxInt64,
	} {
		if got := scaleTop(n); got != want {
			t.Errorf("the scale of %d ends at %d, want %d", n, got, want)
		}
	}
}

func TestBars(t *testing.T) {
	days := []Day{{}, {Accepted: 10}, {Refused: 5}, {Accepted: 5, Refused: 2}, {Accepted: 10_000_000 - 1, Refused: 1}, {Accepted: 1, Refused: 10_000_000 - 1}}
	for _, tt := range []struct {
		days []Day
		top  int64
		want [][2]segment
	}{
		{days[:4], 10, [][2]segment{
			{},
			{{"0.00%", "100.00%"}, {}},
			{{}, {"50.00%", "50.00%"}},
			{{"50.00%", "50.00%"}, {"30.00%", "20.00%"}},
		}},
		{days[4:], 10_000_000, [][2]segment{ // one request is drawn, and nothing above the top
			{{"2.00%", "98.00%"}, {"0.00%", "2.00%"}},
			{{"98.00%", "2.00%"}, {"0.00%", "98.00%"}},
		}},
	} {
		var got [][2]segment
		for _, b := range bars(tt.days, tt.top) {
			got = append(got, [2]segment{b.Accepted, b.Refused})
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("bars up to %d (-want +got):\n%s", tt.top, diff)
		}
	}
	for i, b := range bars(days, 10) {
		if x, width := number(t, b.X), number(t, b.Width); x < float64(i)*100/6 || x+width > float64(i+1)*100/6 {
			t.Errorf("bar %d is not in its place: from %s on %s wide", i, b.X, b.Width)
		}
	}
}

func number(t *testing.T, percentage string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(strings.TrimSuffix(percentage, "%"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The legend, the labels and the table of one chart say the same.
func TestNumbersOfChartAgree(t *testing.T) {
	var days []Day
	for i := range 30 {
		days = append(days, Day{At: time.Date(2026, 10, 25+i, 0, 0, 0, 0, time.UTC), Accepted: int64(i * 100), Refused: int64(i % 3)})
	}
	html := draw(t, chart(days))
	for _, want := range []string{
		"Accepted <b class=\"num\">43,500</b>", "Refused <b class=\"num\">30</b>", "<span>4,000</span> <span>2,000</span> <span>0</span>",
		"43,530 requests in the last 30 days, 30 refused. Most on Nov 23, 2026: 2,900 accepted, 2 refused.",
		"<span>Oct 25, 2026</span><span>Today</span>",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("want %s in\n%s", want, html)
		}
	}
	if label := draw(t, spark(days)); !strings.Contains(label, "43,530 requests in the last 30 days, 30 refused\"") {
		t.Errorf("the small chart says %s", label)
	}
	rows := strings.Split(html, "<tr>")[2:]
	slices.Reverse(rows)
	for i, row := range rows {
		want := "<th scope=\"row\">" + Date(days[i].At).Text + "</th><td class=\"count num\">" + Number(days[i].Accepted) + "</td><td class=\"count num\">" + Number(days[i].Refused) + "</td>"
		if !strings.HasPrefix(row, want) {
			t.Errorf("day %d is %s, want %s", i, row, want)
		}
	}
	if len(rows) != len(days) || strings.Contains(html, "style=") || strings.Contains(html, "<text") || strings.Contains(html, "viewBox") {
		t.Errorf("%d rows, or a style or text that scales:\n%s", len(rows), html)
	}
	if got := draw(t, chart(make([]Day, 30))); !strings.Contains(got, "No requests in the last 30 days") || strings.Contains(got, "<svg") {
		t.Errorf("without requests: %s", got)
	}
}
