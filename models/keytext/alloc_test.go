//go:build !race

package keytext

import "testing"

// Under the race detector a sync.Pool forgets at random, so this would count that.
func TestParseAndHashDoNotAllocate(t *testing.T) {
	h, text := NewHasher([]byte("pepper")), Mint(Live).Reveal()
	if n := testing.AllocsPerRun(1000, func() {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		h.Hash(s)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
