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
	case strings.IndexFunc(name, isVisible) < 0:
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

// Fold returns s in NFC and case-folded, as e-mail addresses are compared.
func Fold(s string) string { return norm.NFC.String(cases.Fold().String(s)) }

// FoldName returns name as it is searched and compared for uniqueness: folded,
// without characters that show nothing, and with one space for any blank. Names
// that differ in these alone look equal. Joiners and variation selectors are
// dropped too, although some scripts and emoji need them. It returns "" for a
// name that looks blank.
func FoldName(name string) string {
	shown := strings.Map(func(r rune) rune {
		switch {
		case isBlank(r):
			return ' '
		case isInvisible(r):
			return -1
		}
		return r
	}, name)
	return Fold(strings.Join(strings.Fields(shown), " "))
}

// NameFolds returns every form in which name may be stored: FoldName's, and
// after it Fold's where that differs. Versions before FoldName stored the latter.
func NameFolds(name string) []string {
	folds := []string{FoldName(name)}
	if old := Fold(name); old != folds[0] {
		folds = append(folds, old)
	}
	return folds
}

func isUnsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

func isVisible(r rune) bool {
	return unicode.IsGraphic(r) && !isBlank(r) && !isInvisible(r)
}

// isBlank reports whether r is shown as a gap: a space, or a symbol without ink.
func isBlank(r rune) bool {
	const brailleBlank, nullNotehead = '\u2800', '\U0001D159'
	return unicode.IsSpace(r) || r == brailleBlank || r == nullNotehead
}

// isInvisible reports whether r shows nothing by itself: a superset of Unicode's
// Default_Ignorable_Code_Point, derived as in DerivedCoreProperties.txt.
func isInvisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point) &&
		!unicode.Is(unicode.Prepended_Concatenation_Mark, r)
}

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
