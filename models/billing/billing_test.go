package billing

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

const (
	detailed        = "testdata/github-usage-report-2025-11.csv.gz"
	summarized      = "testdata/github-usage-report-2025-07-summarized.csv"
	firstGeneration = "testdata/github-usage-report-2023-01-first-generation.csv"
)

func mustRead(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type result struct {
	Read, Skipped int
	Totals        models.ReportTotals
	Rows          []models.ReportRow
}

func parse(r io.Reader) (result, error) {
	var res result
	report, err := NewReader(r)
	if err != nil {
		return res, err
	}
	for row, rowErr := range report.Rows() {
		if rowErr != nil {
			err = rowErr
			break
		}
		res.Totals.Add(row)
		res.Rows = append(res.Rows, row)
	}
	res.Read, res.Skipped = report.Counts()
	return res, err
}

func mustDay(t testing.TB, s string) models.Day {
	t.Helper()
	d, err := models.ParseDay(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRealReports(t *testing.T) {
	for _, test := range []struct {
		name, file, first, last string
		read, kept              int
		minutes                 int64
		cost                    models.Decimal
	}{
		{"detailed", detailed, "2025-11-01", "2025-11-03", 6508, 1900, 13167, 1_077_200},
		{"summarized", summarized, "2025-07-01", "2025-07-04", 20, 19, 10394, 873360},
		{"first generation", firstGeneration, "2023-01-20", "2023-01-25", 13, 5, 50, 4_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parse(strings.NewReader(mustRead(t, test.file)))
			if err != nil {
				t.Fatal(err)
			}
			got.Rows = nil
			want := result{test.read, test.read - test.kept, models.ReportTotals{
				Rows: test.kept, First: mustDay(t, test.first), Last: mustDay(t, test.last),
				Minutes: models.Decimal(test.minutes) * models.One, Cost: test.cost,
			}, nil}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

const (
	header = "date,product,sku,quantity,unit_type,applied_cost_per_quantity,gross_amount,discount_amount,net_amount,username,organization,repository,workflow_path,cost_center_name\n"
	row    = "2025-11-01,actions,actions_linux,9,minutes,0.008,0.07200000000000001,0,0,ada,acme,api,.github/workflows/ci.yml,\n"
	old    = "Date,Product,SKU,Quantity,Unit Type,Price Per Unit ($),Multiplier,Owner,Repository Slug,Username,Actions Workflow,Notes\n"
	oldRow = "2025-11-01,Actions,linux,9,minute,0.008,1.0,acme,api,ada,.github/workflows/ci.yml,\n"
)

// TestSpellings gives the same row in every accepted way.
func TestSpellings(t *testing.T) {
	crlf := strings.NewReplacer("\n", "\r\n")
	quote := strings.NewReplacer(",", `","`, "\n", "\"\n")
	for name, text := range map[string]string{
		"plain":                 header + row,
		"byte order mark":       "\ufeff" + header + row,
		"CRLF":                  crlf.Replace(header + row),
		"quoted":                `"` + quote.Replace(header) + `"` + quote.Replace(row),
		"quoted with mark":      "\ufeff" + `"` + quote.Replace(header) + `"` + quote.Replace(row),
		"no line end":           strings.TrimSuffix(header+row, "\n"),
		"blank lines":           header + "\n" + row + "\n\n",
		"capitals":              strings.ToUpper(header) + strings.Replace(row, "actions,actions_linux,9,minutes", "ACTIONS,Actions_Linux,9.0,Minutes", 1),
		"spaces":                strings.ReplaceAll(header, ",", " , ") + strings.ReplaceAll(row, ",", ", "),
		"older names":           strings.NewReplacer("date,", "usage_at,", "workflow_path", "workflow_name").Replace(header) + row,
		"full date":             header + strings.Replace(row, "2025-11-01", "2025-11-01T23:59:59Z", 1),
		"one minute":            header + strings.Replace(row, "minutes", "Minute", 1),
		"SKU without prefix":    header + strings.Replace(row, "actions_linux", "linux", 1),
		"org/repo":              header + strings.Replace(row, ",api,", ",acme/api,", 1),
		"only org/repo":         header + strings.Replace(row, ",acme,api,", ",,acme/api,", 1),
		"other order":           "workflow_path,gross_amount,repository,organization,unit_type,quantity,sku,product,date,x\n.github/workflows/ci.yml,0.072,api,acme,minutes,9,actions_linux,actions,2025-11-01,\n",
		"first generation":      old + oldRow,
		"without notes":         old + strings.TrimSuffix(oldRow, ",\n") + "\n",
		"no notes, no line end": old + strings.TrimSuffix(oldRow, ",\n"),
		"with notes":            old + strings.TrimSuffix(oldRow, "\n") + "\"a \"\"note\"\",\nin two lines\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(iotest.OneByteReader(strings.NewReader(text)))
			if err != nil {
				t.Fatal(err)
			}
			want := []models.ReportRow{{
				Day: mustDay(t, "2025-11-01"), Organization: "acme", Repository: "api",
				Workflow: ".github/workflows/ci.yml", Runner: "linux", Minutes: 9 * models.One, Cost: 720,
			}}
			if diff := cmp.Diff(want, got.Rows); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSkipped(t *testing.T) {
	got, err := parse(strings.NewReader(header +
		"2025-11-01,actions,actions_storage,1,gigabyte-hours,1,1,0,0,,acme,api,,\n" +
		"2025-11-01,copilot,copilot,1,minutes,1,1,0,0,,acme,api,,\n" + row +
		"not even a date,git_lfs,x,many,,,,,,,,,,\n"))
	if err != nil || got.Read != 4 || got.Skipped != 3 || len(got.Rows) != 1 {
		t.Errorf("%d read, %d skipped, %d kept, %v", got.Read, got.Skipped, len(got.Rows), err)
	}
}

func TestBadValues(t *testing.T) {
	good := header + row
	for _, test := range []struct{ name, text, want string }{
		{"quantity", good + strings.Replace(row, ",9,", ",nine,", 1), `line 3, column quantity: "nine" is not a number`},
		{"no quantity", header + strings.Replace(row, ",9,", ",,", 1), `line 2, column quantity: "" is not a number`},
		{"negative", header + strings.Replace(row, ",9,", ",-9,", 1), `line 2, column quantity: "-9" is negative`},
		{"too large", header + strings.Replace(row, ",9,", ",1e12,", 1), `line 2, column quantity: "1e12" is too large`},
		{"amount", header + strings.Replace(row, "0.07200000000000001", "$1", 1), `line 2, column gross_amount: "$1" is not a number`},
		{"date", header + strings.Replace(row, "2025-11-01", "11/01/2025", 1), `line 2, column date: "11/01/2025" is not a date as YYYY-MM-DD`},
		{"no such day", header + strings.Replace(row, "2025-11-01", "2025-11-31", 1), `line 2, column date: "2025-11-31" is not a date as YYYY-MM-DD`},
		{"price", old + strings.Replace(oldRow, "0.008", "x", 1), `line 2, column Price Per Unit ($): "x" is not a number`},
		{"bytes", header + strings.Repeat(row, 9) + strings.Replace(row, "api", "a\xffi", 1), `line 11, column repository: "a\xffi" is not plain text in UTF-8`},
		{"zero byte", header + strings.Replace(row, "ci.yml", "ci\x00yml", 1), `the file is not text in UTF-8, want a GitHub billing usage report (CSV)`},
		{"line break", good + strings.Replace(row, "api", "\"a\ni\"", 1), `line 3, column repository: "a\ni" is not plain text in UTF-8`},
		{"long", header + strings.Replace(row, "api", strings.Repeat("a", 201), 1), `line 2, column repository: "` + strings.Repeat("a", 100) + `"… has more than 200 bytes`},
		{"after two lines in one value", good + strings.Replace(row, ",\n", ",\"a\nb\"\n", 1) + strings.Replace(row, ",9,", ",x,", 1), `line 5, column quantity: "x" is not a number`},
		{"few values", good + "2025-11-01,actions\n", "line 3: the row has 2 values, but the header has 14 columns"},
		{"many values", header + strings.Replace(row, ",\n", ",,,\n", 1), "line 2: the row has 16 values, but the header has 14 columns"},
		{"stray quote", header + strings.Replace(row, "acme", `ac"me`, 1), `line 2, character 80: bare " in non-quoted-field`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(strings.NewReader(test.text))
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestNoReport(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "the file is empty"},
		{"only a mark", "\ufeff", "the file is empty"},
		{"blank", "\r\n\n  \n", "the file is empty"},
		{"binary", "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "the file is not text"},
		{"compressed", "\x1f\x8b\x08\x08", "the file is not text"},
		{"UTF-16", "\xff\xfed\x00a\x00t\x00e\x00", "the file is not text"},
		{"page", "<!DOCTYPE html>\n<p>Not Found", "line 1: this is no header of a GitHub billing usage report: missing date, product"},
		{"no amount", strings.Replace(header, "gross_amount", "net", 1) + row, "missing gross_amount"},
		{"semicolons", strings.ReplaceAll(header+row, ",", ";"), "missing date"},
		{"rows alone", row, "missing date"},
		{"twice", "Date," + header, `line 1: the column "date" stands there twice`},
		{"endless line", strings.Repeat("a", 2*maxRow), "a row after 0 has more than 1048576 bytes"},
		{"quote not closed", header + row + `"` + strings.Repeat("a\n", maxRow), "a row after 1 has more than 1048576 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(strings.NewReader(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	if got, err := parse(strings.NewReader(header)); err != nil || got.Read != 0 {
		t.Errorf("a header alone is a report without rows: %+v, %v", got, err)
	}
	if _, err := parse(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(header)))); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

// TestCut cuts reports at every byte of their last rows: what is read is either an error or the rows that are whole.
func TestCut(t *testing.T) {
	for _, text := range []string{
		header + row + row, old + oldRow + oldRow, mustRead(t, firstGeneration), mustRead(t, summarized),
		old + oldRow + strings.TrimSuffix(oldRow, ",\n") + "\n",
		strings.TrimSuffix(strings.Replace(header, ",cost_center_name", "", 1), "\n") + "\n" + row[:len(row)-2] + "\n" + row[:len(row)-2] + "\n",
	} {
		whole, err := parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for cut := strings.Index(text, "\n") + 1; cut < len(text); cut++ {
			got, err := parse(strings.NewReader(text[:cut]))
			if err != nil {
				continue
			}
			lines := strings.Count(strings.TrimSpace(text[:cut]), "\n") // the header's is one too many
			if got.Read != lines || !slices.Equal(got.Rows, whole.Rows[:len(got.Rows)]) {
				t.Fatalf("cut after %q: %d rows of %d lines", text[max(0, cut-60):cut], got.Read, lines)
			}
		}
	}
	_, err := parse(strings.NewReader((header + row + row)[:len(header+row)+40]))
	if err == nil || err.Error() != "line 3: the file ends in the middle of this row, so it seems cut off" {
		t.Error(err)
	}
	text := mustRead(t, detailed)
	_, err = parse(strings.NewReader(text[:len(text)/2]))
	if err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("the real report cut in half: %v", err)
	}
}

// TestMemory reads more than a row may have, and sees that a row costs a few small allocations.
func TestMemory(t *testing.T) {
	const rows = 2 * maxRow / len(row)
	text := header + strings.Repeat(row, rows)
	perRow := testing.AllocsPerRun(1, func() {
		report, err := NewReader(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range report.Rows() {
			if err != nil {
				t.Fatal(err)
			}
		}
		if read, _ := report.Counts(); read != rows {
			t.Errorf("%d rows read of %d", read, rows)
		}
	}) / float64(rows)
	if perRow > 8 {
		t.Errorf("%.1f allocations a row", perRow)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(header + row)
	f.Add("\ufeff" + old + oldRow)
	f.Add(mustRead(f, firstGeneration))
	f.Add(`"date"` + "\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parse(strings.NewReader(text))
		if err != nil && strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("an error of several lines: %q", err)
		}
		if len(got.Rows)+got.Skipped > got.Read {
			t.Errorf("%d kept and %d skipped of %d", len(got.Rows), got.Skipped, got.Read)
		}
		for _, row := range got.Rows {
			if row.Cost < 0 || row.Minutes < 0 || row.Day.String() < "2000" {
				t.Errorf("a row that cannot be: %+v", row)
			}
		}
	})
}
