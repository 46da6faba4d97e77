package models

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// MaxName is the most characters (code points) a name may have.
const MaxName = 100

// CleanName returns name trimmed and in NFC, or an Error that stands beside field: names have 1 to 100 characters, none
// of them a control character or one that overrides the direction of text (which can make one name look like another).
func CleanName(field, name string) (string, error) {
	name = strings.TrimSpace(name)
	if !utf8.ValidString(name) {
		return "", Invalid(field, "This is not text in UTF-8.")
	}
	name = norm.NFC.String(name)
	if strings.IndexFunc(name, isUnsafe) >= 0 {
		return "", Invalid(field, "Control characters and marks that change the direction of text are not allowed.")
	}
	switch n := utf8.RuneCountInString(name); {
	case n == 0 || strings.IndexFunc(name, isVisible) < 0:
		return "", Invalid(field, "Enter a name.")
	case n > MaxName:
		return "", Invalid(field, "Use at most 100 characters.")
	}
	return name, nil
}

// Printable returns s without what is not UTF-8, control characters, and marks that change the direction of text: what a
// client says of itself, as it can be stored and shown.
func Printable(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strings.Map(func(r rune) rune {
				if isUnsafe(r) {
					return -1
				}
				return r
			}, strings.ToValidUTF8(s, ""))
		}
	}
	return s
}

// Fold returns s as it is compared in searches and for uniqueness: NFC and case-folded.
func Fold(s string) string { return norm.NFC.String(cases.Fold().String(s)) }

func isUnsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

func isVisible(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }

// gramLength is how many characters the pieces have by which names are searched.
const gramLength = 3

// Grams returns the different pieces of three characters of folded, and the shorter ones at its end: whatever is a part
// of folded, a piece begins with its first three characters.
func Grams(folded string) []string {
	runes := []rune(folded)
	seen := make(map[string]bool, len(runes))
	var grams []string
	for i := range runes {
		gram := string(runes[i:min(i+gramLength, len(runes))])
		if !seen[gram] {
			seen[gram] = true
			grams = append(grams, gram)
		}
	}
	return grams
}
