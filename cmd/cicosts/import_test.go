package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

const reports = "../../models/billing/testdata/"

// november is the path of the detailed report, unpacked.
func november(t *testing.T) string {
	t.Helper()
	packed, err := os.ReadFile(reports + "github-usage-report-2025-11.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "november.csv", string(text))
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustHaveAcme makes the account acme and returns its id.
func mustHaveAcme(t *testing.T, st *store.Store) string {
	t.Helper()
	v, err := st.AddUser(t.Context(), models.Operator, models.NewUser{Email: "ada@example.com", PasswordHash: "x", Account: "Acme", Role: models.RoleOwner})
	if err != nil {
		t.Fatal(err)
	}
	return v.AccountID
}

func costsOf(t *testing.T, st *store.Store, account string, f models.CostFilter) []models.DailyCost {
	t.Helper()
	f.To = 1_000_000
	days, err := st.DailyCosts(t.Context(), account, f)
	if err != nil {
		t.Fatal(err)
	}
	return days
}

func TestImportReport(t *testing.T) {
	const line = "6508 rows read, 1900 kept, 4608 skipped; 2025-11-01 to 2025-11-03; total 107.72 USD\n"
	want := []models.DailyCost{
		{Day: 20393, Cost: 129_920, Minutes: 1547 * models.One},
		{Day: 20394, Cost: 166_400, Minutes: 1877 * models.One},
		{Day: 20395, Cost: 780_880, Minutes: 9743 * models.One},
	}
	file := november(t)
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		account := mustHaveAcme(t, st)
		for range 2 {
			var out bytes.Buffer
			if err := importReport(t.Context(), st, file, "acme", nil, nil, &out); err != nil {
				t.Fatal(err)
			}
			if out.String() != line {
				t.Errorf("it says %q, want %q", out.String(), line)
			}
			if diff := cmp.Diff(want, costsOf(t, st, account, models.CostFilter{})); diff != "" {
				t.Error(diff)
			}
		}

		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := importReport(t.Context(), st, "-", "acme", strings.NewReader(summarize(string(text))), nil, io.Discard); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, costsOf(t, st, account, models.CostFilter{})); diff != "" {
			t.Errorf("after the summarized report:\n%s", diff)
		}
	})
}

// summarize leaves user and workflow out of a detailed report, as the summarized one does.
func summarize(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		values := strings.Split(line, ",") // no value of this report has a comma in it
		b.WriteString(strings.Join(append(values[:9:9], values[10], values[11], values[13]), ","))
	}
	return b.String()
}

func TestImportOtherReports(t *testing.T) {
	st := storetest.Open(t, storetest.SQLite(t))
	account := mustHaveAcme(t, st)
	for file, want := range map[string]string{
		reports + "github-usage-report-2025-07-summarized.csv":                                             "20 rows read, 19 kept, 1 skipped; 2025-07-01 to 2025-07-04; total 87.34 USD\n",
		reports + "github-usage-report-2023-01-first-generation.csv":                                       "13 rows read, 5 kept, 8 skipped; 2023-01-20 to 2023-01-25; total 0.40 USD\n",
		write(t, "none.csv", "date,product,sku,quantity,unit_type,gross_amount,organization,repository\n"): "0 rows read, 0 kept, 0 skipped: no minutes of GitHub Actions\n",
	} {
		var out bytes.Buffer
		if err := importReport(t.Context(), st, file, "ACME", nil, nil, &out); err != nil || out.String() != want {
			t.Errorf("%s: %q, %v, want %q", file, out.String(), err, want)
		}
	}
	// Two rows of the first generation's report are equal and add up.
	if got := costsOf(t, st, account, models.CostFilter{Repository: "playground"}); len(got) != 1 || got[0].Cost != 160 {
		t.Errorf("playground: %+v", got)
	}
}

func TestImportRefuses(t *testing.T) {
	st := storetest.Open(t, storetest.SQLite(t))
	account := mustHaveAcme(t, st)
	good := november(t)
	if err := importReport(t.Context(), st, good, "acme", nil, nil, io.Discard); err != nil {
		t.Fatal(err)
	}
	before := costsOf(t, st, account, models.CostFilter{})
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	cut := write(t, "cut.csv", string(text[:len(text)-100]))
	bad := write(t, "bad.csv", strings.Replace(string(text), `"actions_linux","3"`, `"actions_linux","three"`, 1))
	for _, test := range []struct{ name, file, account, want string }{
		{"missing file", filepath.Join(folder, "a\nb.csv"), "acme", `a\nb.csv": no such file or directory`},
		{"folder", folder, "acme", "it is a directory, want a GitHub billing usage report (CSV)"},
		{"empty file", write(t, "empty.csv", ""), "acme", `importing "empty.csv": the file is empty, want a GitHub billing usage report (CSV)`},
		{"wrong header", write(t, "other.csv", "a,b\n1,2\n"), "acme", `importing "other.csv": line 1: this is no header of a GitHub billing usage report: missing date`},
		{"binary file", write(t, "x.png", "\x89PNG\r\n\x1a\n\x00"), "acme", `importing "x.png": the file is not text in UTF-8`},
		{"cut file", cut, "acme", `importing "cut.csv": line 6509: the file ends in the middle of this row`},
		{"bad row", bad, "acme", `column quantity: "three" is not a number`},
		{"empty input", "-", "acme", `importing "standard input": the file is empty`},
		{"unknown account", good, "nobody", `there is no account "nobody"`},
		{"no account", good, "", `there is no account ""`},
		{"wrong file for an unknown account", folder, "nobody", "it is a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := importReport(t.Context(), st, test.file, test.account, strings.NewReader(""), nil, &out)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || out.Len() > 0 {
				t.Errorf("got  %v and %q\nwant %s", err, out.String(), test.want)
			}
		})
	}
	err = importReport(t.Context(), st, "-", "acme", iotest.ErrReader(errors.New("the pipe broke")), nil, io.Discard)
	if err == nil || err.Error() != `importing "standard input": reading the report: the pipe broke` {
		t.Error(err)
	}
	if diff := cmp.Diff(before, costsOf(t, st, account, models.CostFilter{})); diff != "" {
		t.Errorf("the data changed:\n%s", diff)
	}
	if _, err := st.AccountByName(t.Context(), "nobody"); !errors.Is(err, models.ErrNotFound) {
		t.Errorf("an import made an account: %v", err)
	}
}

func TestImportInterrupted(t *testing.T) {
	st := storetest.Open(t, storetest.SQLite(t))
	mustHaveAcme(t, st)
	ctx, cancel := context.WithCancel(t.Context())
	f, err := os.Open(november(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := readerFunc(func(p []byte) (int, error) {
		n, err := f.Read(p)
		if err == io.EOF {
			cancel()
		}
		return n, err
	})
	if err := importReport(ctx, st, "-", "acme", in, nil, io.Discard); err == nil || err.Error() != `importing "standard input": interrupted` {
		t.Error(err)
	}
}

func TestBar(t *testing.T) {
	draw := func(size int64, text string) string {
		var terminal strings.Builder
		b := newBar(&terminal, size)
		if _, err := io.Copy(struct{ io.Writer }{io.Discard}, b.watch(strings.NewReader(text))); err != nil {
			t.Fatal(err)
		}
		b.clear()
		b.clear()
		return terminal.String()
	}
	const start = "\r\x1b[K"
	if diff := cmp.Diff(start+"reading ["+strings.Repeat("#", 30)+"] 100 %"+start+"reading ["+strings.Repeat("#", 30)+"] 100 %, storing"+start, draw(9, "123456789")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(start+"reading: 0 MiB"+start+"reading: 0 MiB, storing"+start, draw(0, "123456789")); diff != "" {
		t.Error(diff)
	}
	if got := strings.Count(draw(10_000_000, strings.Repeat("x", 10_000_000)), start); got > 103 {
		t.Errorf("drawn %d times", got)
	}
	if got := newBar(nil, 9).watch(nil); got != nil {
		t.Error("watched with no terminal")
	}
}
