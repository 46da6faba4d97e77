package password

import (
	"strings"
	"testing"

	"cicosts/models"
)

func TestAccept(t *testing.T) {
	for _, tt := range []struct {
		name, password, email string
		ok                    bool
	}{
		{"words", "correct horse battery staple", "a@b.example", true},
		{"shortest", "g7#kd93mzQ!x", "a@b.example", true},
		{"11 characters", "g7#kd93mzQ!", "a@b.example", false},
		{"11 characters in 22 bytes", "éàüößñçøåæœ", "a@b.example", false},
		{"128 characters", strings.Repeat("g7#kd93mzQ!x-+_~", 8), "a@b.example", true},
		{"129 characters", strings.Repeat("g7#kd93mzQ!x-+_~", 8) + "1", "a@b.example", false},
		{"emoji and NUL", "🔑🗝️ ключ \x00 0123", "a@b.example", true},
		{"not UTF-8", "g7#kd93mzQ!x\xff", "a@b.example", false},
		{"common", "unbelievable", "a@b.example", false},
		{"common in capitals", "Administrator", "a@b.example", false},
		{"one character", strings.Repeat("a", 30), "a@b.example", false},
		{"a run", "1234567890123", "a@b.example", false},
		{"a run down", "zyxwvutsrqpon", "a@b.example", false},
		{"own address", "ada.lovelace1", "ada.lovelace@example.com", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Accept(tt.password, tt.email)
			if (err == nil) != tt.ok {
				t.Errorf("Accept = %v", err)
			}
			if err != nil && models.CodeOf(err) != models.CodeInvalidForm {
				t.Errorf("code %s", models.CodeOf(err))
			}
		})
	}
}

func TestEveryCommonPasswordIsRefused(t *testing.T) {
	list := strings.Fields(common)
	if len(list) < 300 {
		t.Fatalf("only %d in the list", len(list))
	}
	for _, p := range list {
		if Accept(p, "a@b.example") == nil {
			t.Errorf("%q accepted", p)
		}
	}
}

func TestHashAndCheck(t *testing.T) {
	long := strings.Repeat("g7#kd93mzQ!x-+_~", 8)
	hash, err := Hash(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("parameters of %s", hash)
	}
	for password, want := range map[string]bool{long: true, long[:127]: false, long + "x": false, "": false} {
		if got, err := Check(t.Context(), password, hash); got != want || err != nil {
			t.Errorf("Check of %d characters = %v, %v", len(password), got, err)
		}
	}
	if ok, err := Check(t.Context(), long, ""); ok || err != nil {
		t.Errorf("Check without a user = %v, %v", ok, err)
	}
}
