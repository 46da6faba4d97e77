// Package keytext owns the text of an API key: minting, parsing, its checksum and its hash.
//
// It reads nothing but its arguments and randomness, keeps no text, and must never log one.
//
// A key is "cic_live_" or "cic_test_", 22 random characters of 0-9A-Za-z (131 bits) and 6 of checksum: the
// CRC-32 (IEEE) of everything before it in base 62, left-padded with '0'. The checksum lets a mistyped key be refused,
// and a leaked one be recognised by secret scanners, without a look at the database.
package keytext

import (
	"crypto/rand"
	"errors"
	"hash/crc32"
	"log/slog"
)

const (
	alphabet    = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	livePrefix  = "cic_live_"
	testPrefix  = "cic_test_"
	prefixLen   = len(livePrefix)
	randomLen   = 22
	checksumLen = 6

	// Length is the number of bytes of every key's text.
	Length = prefixLen + randomLen + checksumLen
)

// Why a text is not a key. Neither error holds any part of the text.
var (
	ErrMalformed = errors.New("not of the form of an API key")
	ErrChecksum  = errors.New("the API key's checksum does not match")
)

// Mode says which data of its account a key works on.
type Mode string

// The two modes of a key.
const (
	Live Mode = "live" // the account's own data
	Test Mode = "test" // sample data
)

// Valid reports whether m is one of the two modes.
func (m Mode) Valid() bool { return m == Live || m == Test }

// Prefix is what the text of a key of mode m begins with.
func (m Mode) Prefix() string {
	if m == Test {
		return testPrefix
	}
	return livePrefix
}

// Secret is the text of one key. It prints, logs and marshals redacted; only Reveal gives the text away.
// The zero value is no key.
type Secret struct{ text string }

// Mint makes a new key of mode m, which must be valid, from the operating system's randomness.
func Mint(m Mode) Secret {
	text := make([]byte, 0, Length)
	text = append(text, m.Prefix()...)
	text = appendRandom(text, randomLen)
	return Secret{text: string(appendChecksum(text))}
}

// Parse checks form and checksum of text and returns it as a Secret, without allocating.
// It returns ErrMalformed or ErrChecksum. That text parses does not mean that the key exists.
func Parse(text string) (Secret, error) {
	if len(text) != Length {
		return Secret{}, ErrMalformed
	}
	if p := text[:prefixLen]; p != livePrefix && p != testPrefix {
		return Secret{}, ErrMalformed
	}
	for i := prefixLen; i < Length; i++ {
		if !isAlphanumeric(text[i]) {
			return Secret{}, ErrMalformed
		}
	}
	sum := checksum(text[:Length-checksumLen])
	if string(sum[:]) != text[Length-checksumLen:] {
		return Secret{}, ErrChecksum
	}
	return Secret{text: text}, nil
}

// Reveal returns the text. Show it to its owner once and store it nowhere.
func (s Secret) Reveal() string { return s.text }

// Hint returns the last four characters, by which a list may show the key.
func (s Secret) Hint() string {
	if s.text == "" {
		return ""
	}
	return s.text[len(s.text)-4:]
}

// String keeps the text out of fmt.
func (s Secret) String() string { return "[redacted key]" }

// GoString keeps the text out of %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue keeps the text out of slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the text out of JSON and its like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func isAlphanumeric(b byte) bool {
	return b-'0' <= 9 || b-'A' <= 25 || b-'a' <= 25
}

// appendRandom appends n characters, each equally likely: bytes that would favour the first letters are thrown away.
func appendRandom(dst []byte, n int) []byte {
	const fair = 256 - 256%len(alphabet)
	var buf [64]byte
	for n > 0 {
		rand.Read(buf[:]) // never fails: crypto/rand ends the program first
		for _, b := range buf {
			if int(b) < fair && n > 0 {
				dst = append(dst, alphabet[int(b)%len(alphabet)])
				n--
			}
		}
	}
	return dst
}

func appendChecksum(text []byte) []byte {
	sum := checksum(string(text))
	return append(text, sum[:]...)
}

// checksum goes through the table itself, because crc32.ChecksumIEEE would move its argument to the heap.
func checksum(text string) (sum [checksumLen]byte) {
	crc := ^uint32(0)
	for i := range len(text) {
		crc = crc32.IEEETable[byte(crc)^text[i]] ^ crc>>8
	}
	crc = ^crc
	for i := checksumLen - 1; i >= 0; i-- {
		sum[i] = alphabet[crc%uint32(len(alphabet))]
		crc /= uint32(len(alphabet))
	}
	return sum
}
