package models

import (
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestParseDecimal(t *testing.T) {
	for text, want := range map[string]Decimal{
		"0": 0, "1": 10_000, "0.008": 80, "33.896": 338_960, "1.": 10_000, ".5": 5_000, "007": 70_000,
		"0.07200000000000001":  720,
		"0.016000000000000004": 160, "0.07999999999999999": 800,
		"9.4086E-05": 1, "4.9999E-05": 0, "5e-5": 1, "2.7E-08": 0, "1.5E+2": 1_500_000, "1e2": 1_000_000,
		"0.00005": 1, "0.00004999999999999999": 0, "0.99995": 10_000, "-0.00005": -1, "-1.5": -15_000,
		"1E-9999": 0, "0E9999": 0, "0.000000": 0, "99999999999999": 99999999999999 * One,
	} {
		if got, err := ParseDecimal(text); err != nil || got != want {
			t.Errorf("ParseDecimal(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]error{
		"": ErrNotNumber, ".": ErrNotNumber, "-": ErrNotNumber, "abc": ErrNotNumber, "1,000": ErrNotNumber, "1_0": ErrNotNumber,
		"0x10": ErrNotNumber, "NaN": ErrNotNumber, "Inf": ErrNotNumber, "1e": ErrNotNumber, "1e+": ErrNotNumber, "1e+-2": ErrNotNumber,
		"1e-+2": ErrNotNumber, "--1": ErrNotNumber, "1.2.3": ErrNotNumber, "e5": ErrNotNumber, "1e99999": ErrNotNumber, " 1": ErrNotNumber,
		"١": ErrNotNumber, strings.Repeat("1", 61): ErrNotNumber, "1e15": ErrTooLarge, "100000000000000": ErrTooLarge,
	} {
		if got, err := ParseDecimal(text); !errors.Is(err, want) {
			t.Errorf("ParseDecimal(%q) = %d, %v, want %v", text, got, err, want)
		}
	}
}

func TestParseProduct(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want Decimal
	}{
		{"34", "0.008", 2_720},
		{"3", "0.00001", 0},
		{"5", "0.00001", 1},               // 0.00005, rounded once: rounding the price first would give 0
		{"0.33333333333333331", "3", One}, // 0.99999999999999993
		{"-2", "0.5", -One},
		{"0", "1e300", 0},
		{"1e-300", "1e300", One},
	} {
		if got, err := ParseProduct(test.a, test.b); err != nil || got != test.want {
			t.Errorf("ParseProduct(%q, %q) = %d, %v, want %d", test.a, test.b, got, err, test.want)
		}
	}
	if _, err := ParseProduct("1e9", "1e9"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a product of 1e18: %v", err)
	}
	if _, err := ParseProduct("1", "x"); !errors.Is(err, ErrNotNumber) {
		t.Errorf("a product with x: %v", err)
	}
}

// FuzzParseDecimal compares with arithmetic on fractions.
func FuzzParseDecimal(f *testing.F) {
	f.Add("0.07200000000000001")
	f.Add("-9.4086E-05")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseDecimal(text)
		if err != nil {
			return
		}
		if i := strings.IndexAny(text, "eE"); i >= 0 && len(text)-i > 4 {
			return // slow with fractions
		}
		want, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		negative := want.Sign() < 0
		want.Abs(want).Mul(want, big.NewRat(int64(One), 1)).Add(want, big.NewRat(1, 2))
		n := new(big.Int).Quo(want.Num(), want.Denom())
		if negative {
			n.Neg(n)
		}
		if !n.IsInt64() || Decimal(n.Int64()) != got {
			t.Errorf("ParseDecimal(%q) = %d, want %s", text, got, n)
		}
	})
}

func TestDecimalRounds(t *testing.T) {
	for _, test := range []struct {
		d     Decimal
		text  string
		whole int64
	}{
		{0, "0.00", 0},
		{49, "0.00", 0},
		{50, "0.01", 0},
		{780_880, "78.09", 78},
		{1_077_200, "107.72", 108},
		{5_000, "0.50", 1},
		{4_999, "0.50", 0},
		{-50, "-0.01", 0},
		{-49, "0.00", 0},
		{-5_000, "-0.50", -1},
		{12_345_678_900, "1234567.89", 1_234_568},
	} {
		if test.d.String() != test.text || test.d.Whole() != test.whole {
			t.Errorf("%d: %s and %d, want %s and %d", int64(test.d), test.d, test.d.Whole(), test.text, test.whole)
		}
	}
}

func TestDay(t *testing.T) {
	for text, want := range map[string]Day{"1970-01-01": 0, "1969-12-31": -1, "2025-11-01": 20393, "0001-01-01": -719162} {
		got, err := ParseDay(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("ParseDay(%q) = %d (%s), %v, want %d", text, got, got, err, want)
		}
	}
	for _, text := range []string{"", "2025-1-1", "2025-02-30", "2025-11-01T00:00:00Z", "01/11/2025"} {
		if _, err := ParseDay(text); err == nil {
			t.Errorf("ParseDay(%q) gave no error", text)
		}
	}
}

func TestCostFilterMatches(t *testing.T) {
	const path = ".github/workflows/ci.yml"
	for _, test := range []struct {
		name   string
		filter CostFilter
		want   bool
	}{
		{"nothing asked", CostFilter{}, true},
		{"other case", CostFilter{Organization: "ACME", Repository: "Api"}, true},
		{"other organization", CostFilter{Organization: "acme2"}, false},
		{"part of a repository", CostFilter{Repository: "ap"}, false},
		{"file name", CostFilter{Workflow: "ci.yml"}, true},
		{"path", CostFilter{Workflow: path}, true},
		{"part of the path", CostFilter{Workflow: "workflows/ci.yml"}, false},
		{"end of the file name", CostFilter{Workflow: "i.yml"}, false},
		{"workflow in other case", CostFilter{Workflow: "CI.yml"}, false},
	} {
		if got := test.filter.Matches("Acme", "api", path); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
