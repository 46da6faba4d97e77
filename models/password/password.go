// Package password decides which passwords are good enough and turns them into argon2id hashes. It keeps none.
package password

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"

	"cicosts/models"
)

// Lengths in characters. The shortest is above the 8 of OWASP ASVS 6.2.1 and below the 15 it advises for a password
// without a second factor; nothing is cut off.
const (
	MinLength = 12
	MaxLength = 128
)

// OWASP's first choice for argon2id: 19 MiB, two passes, one lane; about 25 ms.
var params = &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// dummy is a hash of a random text with params: checking against it takes as long as checking a user's. It is a constant
// because making one at start would cost 19 MiB.
const dummy = "$argon2id$v=19$m=19456,t=2,p=1$chSUC4e66HZ+n5MLML5PGA$PbhytPTkf8uS/ykiyUCVYEBJb2euvVf4RZI0yq4Yafc"

// AtOnce is how many passwords are hashed at once at most: each costs 19 MiB and
// a core.
const AtOnce = 2

var slots = make(chan struct{}, AtOnce)

// common holds the passwords of at least MinLength characters in the list of the npm package
// @zxcvbn-ts/language-common 4.1.3 (MIT), lower-cased and sorted.
//
//go:embed common.txt
var common string

// Accept returns nil when the password may be used by the person with this e-mail address, else an Error beside the field
// "password" that says what is wrong with it.
func Accept(password, email string) error {
	n := utf8.RuneCountInString(password)
	lower := strings.ToLower(password)
	local, _, _ := strings.Cut(strings.ToLower(email), "@")
	switch {
	case !utf8.ValidString(password):
		return refuse("The password is not text in UTF-8.")
	case n < MinLength:
		return refuse(fmt.Sprintf("Use at least %d characters: a few words are easy to remember.", MinLength))
	case n > MaxLength:
		return refuse(fmt.Sprintf("Use at most %d characters.", MaxLength))
	case len(local) > 3 && strings.Contains(lower, local) && n < MinLength+len(local):
		return refuse("This password is mostly your e-mail address. Choose another.")
	case strings.Contains("\n"+common, "\n"+lower+"\n") || fewCharacters(lower) || isRun(lower):
		return refuse("This password is among those tried first. Choose another.")
	}
	return nil
}

func refuse(message string) error { return models.Invalid("password", message) }

// fewCharacters reports whether s is made of fewer than five different characters.
func fewCharacters(s string) bool {
	seen := map[rune]bool{}
	for _, r := range s {
		seen[r] = true
	}
	return len(seen) < 5
}

// isRun reports whether s only counts up or down, as 1234567890123 or abcdefghijkl do.
func isRun(s string) bool {
	up, down := true, true
	for i := 1; i < len(s); i++ {
		step := int(s[i]) - int(s[i-1])
		up = up && (step == 1 || step == -9)
		down = down && (step == -1 || step == 9)
	}
	return up || down
}

// Hash returns the hash to store. It blocks while others are being hashed, at most until ctx ends.
func Hash(ctx context.Context, password string) (string, error) {
	if err := enter(ctx); err != nil {
		return "", err
	}
	defer leave()
	return argon2id.CreateHash(password, params)
}

// Check reports whether the password is the one hashed. For a user who does not exist, pass "" as hash: the answer is
// false after the same time.
func Check(ctx context.Context, password, hash string) (bool, error) {
	if err := enter(ctx); err != nil {
		return false, err
	}
	defer leave()
	if hash == "" {
		_, err := argon2id.ComparePasswordAndHash(password, dummy)
		return false, err
	}
	return argon2id.ComparePasswordAndHash(password, hash)
}

func enter(ctx context.Context) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return models.Unavailable(errors.New("too many passwords are being checked"))
	}
}

func leave() { <-slots }
