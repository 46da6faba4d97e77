package keytext

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Text, Why string
		Mode      Mode
		Valid     bool
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 20 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for i, v := range vectors {
		s, err := Parse(v.Text)
		if (err == nil) != v.Valid {
			t.Errorf("vector %d (%s): Parse = %v, want valid %v", i, v.Why, err, v.Valid)
		}
		if v.Valid && (!strings.HasPrefix(s.Reveal(), v.Mode.Prefix()) || s.Hint() != v.Text[Length-4:]) {
			t.Errorf("vector %d: wrong mode or hint", i)
		}
	}
}

func TestParseTellsMalformedFromChecksum(t *testing.T) {
	good := Mint(Live).Reveal()
	last := byte('0')
	if good[Length-1] == last {
		last = '1'
	}
	for text, want := range map[string]error{
		good:                                     nil,
		good[:Length-1] + string(last):           ErrChecksum,
		strings.Replace(good, "live", "test", 1): ErrChecksum,
		good + "0":                               ErrMalformed,
		"":                                       ErrMalformed,
		good[:Length-1] + "-":                    ErrMalformed,
	} {
		if _, err := Parse(text); !errors.Is(err, want) {
			t.Errorf("Parse of a %d-byte text = %v, want %v", len(text), err, want)
		}
	}
}

func TestMintedKeysDiffer(t *testing.T) {
	seen := map[string]bool{}
	var used [256]bool
	for range 2000 {
		text := Mint(Test).Reveal()
		if seen[text] {
			t.Fatal("minted twice")
		}
		seen[text] = true
		for _, c := range []byte(text[prefixLen : Length-checksumLen]) {
			used[c] = true
		}
	}
	for _, c := range []byte(alphabet) {
		if !used[c] {
			t.Errorf("character %q never minted in 44,000", c)
		}
	}
}

// A single change anywhere in a key is refused: CRC-32 finds every burst of up to 32 bits.
func TestEverySingleChangeIsRefused(t *testing.T) {
	good := []byte(Mint(Live).Reveal())
	for i := range good {
		for c := range 256 {
			changed := append([]byte(nil), good...)
			changed[i] = byte(c)
			if _, err := Parse(string(changed)); (err == nil) != (good[i] == byte(c)) {
				t.Fatalf("byte %d set to %#x: %v", i, c, err)
			}
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	s := Mint(Live)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", s, "in", struct{ S Secret }{s})
	js, err := json.Marshal(map[string]any{"key": s})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %x", s, struct{ S Secret }{s}, s, s, s, s) + log.String() + string(js)
	if strings.Contains(all, s.Reveal()[prefixLen:]) || strings.Contains(all, fmt.Sprintf("%x", s.Reveal())) {
		t.Error("a printed secret holds its text")
	}
}

const knownHash = "765601f4f8282d854308a74a0b2f9e5ff11e657a89a283500fbe060a4114ca2f"

func TestHash(t *testing.T) {
	a, b := NewHasher([]byte("pepper a")), NewHasher([]byte("pepper b"))
	s := Mint(Live)
	if first, second := a.Hash(s), a.Hash(s); first != second {
		t.Error("a hash differs between two calls")
	}
	if a.Hash(s) == b.Hash(s) || a.Hash(s) == a.Hash(Mint(Live)) {
		t.Error("hashes do not depend on pepper or text")
	}
	// Computed with: printf %s KEY | openssl dgst -sha256 -hmac "pepper a"
	known, err := Parse("cic_live_mavzfVABqZ5YsOOlB1f46R38ERRE")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", a.Hash(known)); got != knownHash {
		t.Errorf("hash = %s, want %s", got, knownHash)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("cic_live_mavzfVABqZ5YsOOlB1f46R38ERRE")
	f.Add("cic_test_")
	f.Add(strings.Repeat("\xff", Length))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if s.Reveal() != text || string(appendChecksum([]byte(text[:Length-checksumLen]))) != text {
			t.Errorf("%q parsed, though it is not what is minted", text)
		}
	})
}

func BenchmarkParseAndHash(b *testing.B) {
	h, text := NewHasher([]byte("pepper")), Mint(Live).Reveal()
	b.ReportAllocs()
	for b.Loop() {
		s, _ := Parse(text)
		h.Hash(s)
	}
}
