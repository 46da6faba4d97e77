package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The README's table of settings and the program's name the same variables, flags and defaults, in the same order.
func TestReadmeNamesEverySetting(t *testing.T) {
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(CICOSTS_[A-Z_]+)` \\| (?:`--([a-z-]+)`)? ?\\| (.*?) \\|").FindAllStringSubmatch(string(raw), -1)
	if len(rows) != len(settingList) {
		t.Fatalf("%d rows in the table, %d settings", len(rows), len(settingList))
	}
	for i, set := range settingList {
		if rows[i][1] != set.env || rows[i][2] != set.flag {
			t.Errorf("row %d is of %s --%s, want %s --%s", i, rows[i][1], rows[i][2], set.env, set.flag)
		}
	}
	for _, value := range []string{defaultAddr, defaultDatabaseURL, defaultBaseURL} {
		if !strings.Contains(string(raw), "| `"+value+"`") {
			t.Errorf("the table does not name the default %s", value)
		}
	}
}

// The README is short: at most 1,000 words beside its tables.
func TestReadmeIsShort(t *testing.T) {
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	words := 0
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(line, "|") {
			words += len(strings.Fields(line))
		}
	}
	if words > 1000 {
		t.Errorf("%d words", words)
	}
}
