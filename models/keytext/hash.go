package keytext

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql/driver"
	"fmt"
	"hash"
	"sync"
)

// Hash is what is stored of a key: HMAC-SHA-256 of its text under a pepper that is not in the database.
// A fast hash is enough because the text has 131 random bits, which no guessing exhausts.
type Hash [sha256.Size]byte

// Value stores the hash as bytes.
func (h Hash) Value() (driver.Value, error) { return h[:], nil }

// Scan reads the hash from bytes.
func (h *Hash) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != len(h) {
		return fmt.Errorf("reading a key hash: got %T", src)
	}
	copy(h[:], b)
	return nil
}

// Hasher hashes keys under one pepper. It is safe for concurrent use.
type Hasher struct{ states sync.Pool }

type hashState struct {
	mac hash.Hash
	buf [Length]byte
	sum [sha256.Size]byte
}

// NewHasher returns a Hasher for pepper, which it copies.
func NewHasher(pepper []byte) *Hasher {
	pepper = append([]byte(nil), pepper...)
	return &Hasher{states: sync.Pool{New: func() any { return &hashState{mac: hmac.New(sha256.New, pepper)} }}}
}

// Hash returns the hash of s without allocating.
func (h *Hasher) Hash(s Secret) Hash {
	st := h.states.Get().(*hashState)
	st.mac.Reset()
	st.mac.Write(st.buf[:copy(st.buf[:], s.text)])
	sum := Hash(st.mac.Sum(st.sum[:0]))
	clear(st.buf[:])
	h.states.Put(st)
	return sum
}
