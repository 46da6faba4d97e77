package main

import (
	"fmt"
	"regexp"
	"strings"

	"cicosts/models"
)

// An error repeats a value of the command line or a setting only if the value
// certainly contains neither a key nor a password: one given in the wrong place
// must not get into a log or onto a shared screen.

var (
	// keyLike matches what may be the text of a key, also a malformed one.
	keyLike = regexp.MustCompile(`(?i)cic(_|-|%5f)\S*`)
	// random matches a run that is as long as the shortest password accepted.
	random = regexp.MustCompile(`[0-9A-Za-z_+-]{12}`)
	// word matches a command or a flag, without its dashes.
	word = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	// keyID matches the id of a key.
	keyID = regexp.MustCompile(`^` + models.KeyIDPrefix + `[A-Z2-7]{22}$`)
)

// harmless reports whether a value certainly contains no secret.
func harmless(value string) bool {
	return len(value) <= 100 && !strings.ContainsAny(value, "@=") && !keyLike.MatchString(value) && !random.MatchString(value)
}

// shown returns the value in quotes, with a space before it, or "" where it
// may contain a secret.
func shown(value string) string {
	if !harmless(value) {
		return ""
	}
	return fmt.Sprintf(" %q", value)
}

// named returns the value in quotes, or says that it is not shown where it may
// contain the text of a key. It is for names of accounts and
// files, which harmless often refuses for their length.
func named(value string) string {
	if keyLike.MatchString(value) {
		return "[not shown]"
	}
	return fmt.Sprintf("%q", value)
}

// hideKeys replaces in an error what may be the text of a key. It is the last
// line of defence: values are checked by harmless where they are repeated.
func hideKeys(text string) string { return keyLike.ReplaceAllString(text, "[key not shown]") }
