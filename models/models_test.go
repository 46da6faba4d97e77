package models

import (
	"strings"
	"testing"
	"time"

	"cicosts/models/keytext"
)

func TestCleanName(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		ok             bool
	}{
		{"plain", "Grafana", "Grafana", true},
		{"trimmed", " \t Grafana \n", "Grafana", true},
		{"empty", "", "", false},
		{"spaces", "   ", "", false},
		{"100 characters", strings.Repeat("é", 100), strings.Repeat("é", 100), true},
		{"101 characters", strings.Repeat("é", 101), "", false},
		{"100 after trimming", " " + strings.Repeat("x", 100) + " ", strings.Repeat("x", 100), true},
		{"composed", "Cafe\u0301", "Café", true},
		{"emoji with joiners", "👩‍💻 laptop", "👩‍💻 laptop", true},
		{"right to left", "מפתח", "מפתח", true},
		{"newline inside", "a\nb", "", false},
		{"NUL", "a\x00b", "", false},
		{"escape", "a\x1b[31mb", "", false},
		{"delete", "a\x7fb", "", false},
		{"bidi override", "a\u202Eb", "", false},
		{"bidi isolate", "a\u2066b", "", false},
		{"right-to-left mark", "a\u200Fb", "", false},
		{"line separator", "a\u2028b", "", false},
		{"only invisible", "\u200B\u200D", "", false},
		{"Hangul fillers", "\u115F\u1160\u3164\uFFA0", "", false},
		{"braille blank", "\u2800", "", false},
		{"null notehead", "\U0001D159", "", false},
		{"soft hyphen", "\u00AD", "", false},
		{"grapheme joiner", "\u034F", "", false},
		{"Mongolian vowel separator", "\u180E", "", false},
		{"tags", "\U000E0067\U000E007F", "", false},
		{"variation selectors", "\uFE0F\U000E0101\u180B", "", false},
		{"noncharacters", "\uFFFE\U0010FFFF", "", false},
		{"blanks between spaces", "\u2800 \u3164\u3000\u200B", "", false},
		{"emoji with a selector", "❤\uFE0F", "❤\uFE0F", true},
		{"keycap", "1\uFE0F\u20E3", "1\uFE0F\u20E3", true},
		{"flag of tags", "🏴\U000E0067\U000E0062\U000E007F", "🏴\U000E0067\U000E0062\U000E007F", true},
		{"Persian with a non-joiner", "می\u200Cخواهم", "می\u200Cخواهم", true},
		{"Devanagari with a joiner", "क्\u200Dष", "क्\u200Dष", true},
		{"Hangul", "한국어", "한국어", true},
		{"a combining mark", "x\u0303", "x\u0303", true},
		{"not UTF-8", "a\xff", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := CleanName("name", tt.in)
			if got != tt.want || (err == nil) != tt.ok {
				t.Errorf("CleanName = %q, %v", got, err)
			}
		})
	}
}

func FuzzCleanName(f *testing.F) {
	f.Add("Grafana")
	f.Add("a\u202Eb\xff")
	f.Fuzz(func(t *testing.T, in string) {
		name, err := CleanName("name", in)
		if err != nil {
			return
		}
		if again, err := CleanName("name", name); err != nil || again != name {
			t.Errorf("cleaning %q again gives %q, %v", name, again, err)
		}
		if FoldName(name) == "" {
			t.Errorf("nothing is left of %q to compare", name)
		}
	})
}

// Names that look equal are equal when they are compared.
func TestFoldName(t *testing.T) {
	for _, same := range [][]string{
		{
			"Grafana", "gRAFANA", "Gra\u200Bfana", "\uFEFFGrafana", "Grafana\u2060", "Gra\u00ADfana", "Gra\u200Dfana", "Gra\u200Cfana",
			"Grafana\u3164", "Grafana\uFFA0", "\u115F\u1160Grafana", "Grafana\u2800", "\u2800\u200BGrafana \u200B", "Gra\u034Ffana", "Gra\uFE0Ffana",
			"Gra\U000E0101fana", "Grafana\U000E0067\U000E007F", "Gra\u2064fana", "Gra\u180Efana", "Gra\U0001BCA0fana", "Gra\uFFFEfana", "Gra\uFFF9fana",
		},
		{"a b", "A B", "a\u00a0b", "a  b", "a\u2003b", "a \u200B b", "a\u2800b"},
		{"Café", "Cafe\u0301", "CAFE\u200B\u0301"},
		{"Straße", "STRASSE"},
		{"❤", "❤\uFE0F"},
		{"می\u200Cخواهم", "میخواهم"},
	} {
		for _, name := range same {
			if got := FoldName(name); got != FoldName(same[0]) {
				t.Errorf("%q becomes %q, and %q %q", name, got, same[0], FoldName(same[0]))
			}
		}
	}
	different := []string{"Grafana", "Gráfana", "Gra fana", "Gra-fana", "Grafana2", "\u0600Grafana", "👩💻", "👩", "कष", "क्ष"}
	seen := map[string]string{}
	for _, name := range different {
		if other := seen[FoldName(name)]; other != "" {
			t.Errorf("%q is taken for %q", name, other)
		}
		seen[FoldName(name)] = name
	}
}

func TestNameFolds(t *testing.T) {
	for name, want := range map[string]string{"Grafana": "grafana", "Gra\u200BFana": "grafana|gra\u200Bfana", "a  B": "a b|a  b", "\u200B": "|\u200B"} {
		if got := strings.Join(NameFolds(name), "|"); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestCleanEmail(t *testing.T) {
	for in, ok := range map[string]bool{
		"ada@example.com": true, " ada@example.com ": true, "ada": false, "": false, "Ada <ada@example.com>": false, "a\u200Bda@example.com": false, "ada@exam\u00ADple.com": false, "müller@example.com": true,
		"ada@example.com\nbcc: x@example.com": false, "a@b, c@d": false, "ada@" + strings.Repeat("x", 260) + ".com": false,
	} {
		if _, err := CleanEmail(in); (err == nil) != ok {
			t.Errorf("CleanEmail(%q) = %v", in, err)
		}
	}
}

func TestStatusAt(t *testing.T) {
	const now = Instant(1000)
	for _, tt := range []struct {
		expires, revoked Instant
		want             Status
	}{
		{0, 0, StatusActive},
		{1001, 0, StatusActive},
		{1000, 0, StatusExpired},
		{999, 0, StatusExpired},
		{0, 1, StatusRevoked},
		{999, 1, StatusRevoked},
		{1001, 999, StatusRevoked},
	} {
		if got := StatusAt(tt.expires, tt.revoked, now); got != tt.want {
			t.Errorf("expires %d, revoked %d: %s, want %s", tt.expires, tt.revoked, got, tt.want)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 11, 23, 22, 30, 0, 0, time.UTC)
	for _, tt := range []struct {
		expires, on string
		want        time.Time // zero: never
		field       string    // of the error
	}{
		{"", "", time.Time{}, ""},
		{"never", "", time.Time{}, ""},
		{"30", "", now.Add(30 * 24 * time.Hour), ""},
		{"365", "", now.Add(365 * 24 * time.Hour), ""},
		{"custom", "2026-11-23", time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), ""},
		{"custom", "2028-02-29", time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC), ""},
		{"custom", "2026-11-22", time.Time{}, "expires_on"},
		{"custom", "2027-02-29", time.Time{}, "expires_on"},
		{"custom", "", time.Time{}, "expires_on"},
		{"custom", "23.11.2026", time.Time{}, "expires_on"},
		{"custom", "9999-12-31", time.Time{}, "expires_on"},
		{"31", "", time.Time{}, "expires"},
		{"-30", "", time.Time{}, "expires"},
		{"tomorrow", "", time.Time{}, "expires"},
	} {
		e, err := ParseExpiry(tt.expires, tt.on, now)
		if (err == nil) != (tt.field == "") || err != nil && err.Field != tt.field {
			t.Errorf("%q %q: error %v, want one at %q", tt.expires, tt.on, err, tt.field)
			continue
		}
		if got := e.From(At(now)).Time(); err == nil && !got.Equal(tt.want) {
			t.Errorf("%q %q: %v, want %v", tt.expires, tt.on, got, tt.want)
		}
	}
}

func TestPermissions(t *testing.T) {
	all, err := ParsePermissions(FullAccess.Names())
	if err != nil || all != FullAccess || len(FullAccess.Names()) != 5 {
		t.Errorf("all five: %v, %v", all.Names(), err)
	}
	two, err := ParsePermissions([]string{"alerts:write", "costs:read", "costs:read"})
	if err != nil || two.String() != "costs:read alerts:write" {
		t.Errorf("two: %v, %v", two, err)
	}
	if AlertsWrite.Has(AlertsRead) || !two.Has(CostsRead) || two.Has(FullAccess) {
		t.Error("a permission implies another, or none implies itself")
	}
	for _, bad := range []string{"", "costs", "COSTS:READ", "costs:read ", "admin"} {
		if p, err := ParsePermissions([]string{"costs:read", bad}); err == nil || p != 0 {
			t.Errorf("%q accepted", bad)
		}
	}
	// The bits are in databases: they may not move.
	if CostsRead != 1 || WorkflowsRead != 2 || AlertsRead != 4 || AlertsWrite != 8 || WebhooksWrite != 16 {
		t.Error("the bits of permissions have changed")
	}
}

func TestKeyRequestClean(t *testing.T) {
	ok := KeyRequest{Name: " x ", Mode: keytext.Test, Permissions: CostsRead}
	if got, errs := ok.Clean(); got.Name != "x" || errs != nil {
		t.Errorf("%+v, %v", got, errs)
	}
	_, errs := KeyRequest{}.Clean()
	var fields []string
	for _, e := range errs {
		fields = append(fields, e.Field)
	}
	if strings.Join(fields, " ") != "name mode permissions" {
		t.Errorf("errors at %v", fields)
	}
}

func TestIDsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID(KeyIDPrefix)
		if seen[id] || len(id) != 26 || !strings.HasPrefix(id, "key_") {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

func TestGrams(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "ab": "ab b", "abc": "abc bc c", "abcd": "abc bcd cd d", "aaaa": "aaa aa a", "größe": "grö röß öße ße e",
	} {
		if got := strings.Join(Grams(in), " "); got != want {
			t.Errorf("Grams(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "curl/8.5.0": "curl/8.5.0", "Grafana/10 (عربي) 🔑": "Grafana/10 (عربي) 🔑",
		"a\x00b\tc\x7fd\x1b[1m": "abcd[1m", "a\u0085\u009bb": "ab", "a\u202e\u2066b\u2028c": "abc", "\xff\xfea\xc3": "a",
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
