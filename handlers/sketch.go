package handlers

import "hash/maphash"

// A sketch remembers an ascending number for each key, in constant memory and
// with constant work, however many keys there are. It is a count-min sketch:
// each key has one cell in each row, and its number is the lowest of them. A
// key may read too high when each of its cells is shared with a key that has a
// higher number. It may read too low when a key that shares a cell is lowered,
// which is as rare. The hash is seeded at random, so a client cannot choose keys
// that share cells.
//
// A sketch is not safe for concurrent use.
type sketch struct {
	seed maphash.Seed
	rows [sketchRows][]int64
}

// With 2,400 busy keys, one in 1,400 new keys reads too high: (1-e^(-2400/16384))^4
// is 0.0003, and 512 KiB a sketch.
const (
	sketchRows  = 4
	sketchCells = 1 << 14
)

// cells are the positions of one key's cells, by row.
type cells [sketchRows]uint16

func newSketch() *sketch {
	s := &sketch{seed: maphash.MakeSeed()}
	for row := range s.rows {
		s.rows[row] = make([]int64, sketchCells)
	}
	return s
}

func (s *sketch) find(key string) (at cells) {
	hash := maphash.String(s.seed, key)
	for row := range at {
		at[row] = uint16(hash >> (16 * row) % sketchCells)
	}
	return at
}

// get returns the key's number, 0 when nothing raised it.
func (s *sketch) get(at cells) int64 {
	lowest := s.rows[0][at[0]]
	for row, cell := range at {
		lowest = min(lowest, s.rows[row][cell])
	}
	return lowest
}

// raise makes the key's number at least n.
func (s *sketch) raise(at cells, n int64) {
	for row, cell := range at {
		s.rows[row][cell] = max(s.rows[row][cell], n)
	}
}

// lower makes the key's number at most n. It leaves alone the cells that
// another key has raised higher than this key's number.
func (s *sketch) lower(at cells, n int64) {
	now := s.get(at)
	for row, cell := range at {
		if s.rows[row][cell] == now {
			s.rows[row][cell] = min(now, n)
		}
	}
}
