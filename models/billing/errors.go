package billing

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// RowError says which value of a report cannot be right. Its text is one line.
type RowError struct {
	Line   int // from 1, the header's
	Column string
	Value  string
	Reason string // goes on after the value: "is not a number"

	index int // of the column
}

func (e *RowError) Error() string {
	const longest = 100
	value, more := e.Value, ""
	if len(value) > longest {
		value, more = value[:longest], "…"
	}
	return fmt.Sprintf("line %d, column %s: %q%s %s", e.Line, e.Column, value, more, e.Reason)
}

// source is the file, watched for its end and for rows without one.
type source struct {
	r     io.Reader
	left  int // bytes that may still be read for the row under way
	last  byte
	ended bool
}

var errLongRow = errors.New("the row is too long")

func (s *source) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, errLongRow
	}
	n, err := s.r.Read(p[:min(len(p), s.left)])
	s.left -= n
	if n > 0 {
		s.last = p[n-1]
	}
	s.ended = err == io.EOF
	return n, err
}

// checkShape refuses a row with too few or too many values, and a last one that may have been cut. Reports of the first
// generation may leave out the last value, the notes.
func (r *Reader) checkShape(fields []string) error {
	want, got := r.columns.count, len(fields)
	line, _ := r.csv.FieldPos(0)
	short := got < want && !(got == want-1 && r.columns.notesLast)
	switch {
	case r.endsInside() && (short || !r.columns.seemsWhole(fields, r.source.last)):
		return cutOff(line)
	case short || got > want:
		return fmt.Errorf("line %d: the row has %d values, but the header has %d columns", line, got, want)
	}
	return nil
}

// endsInside reports whether the row just read is the last one and its line has no end.
func (r *Reader) endsInside() bool {
	return r.source.ended && r.ahead.Buffered() == 0 && r.source.last != '\n'
}

func cutOff(line int) error {
	return fmt.Errorf("line %d: the file ends in the middle of this row, so it seems cut off", line)
}

// explain turns an error of the csv package into one that says what to look for.
func (r *Reader) explain(err error) error {
	if errors.Is(err, errLongRow) {
		return fmt.Errorf("a row after %d has more than %d bytes: this is no GitHub billing usage report (CSV), or a quote is not closed", r.read, maxRow)
	}
	bad, ok := errors.AsType[*csv.ParseError](err)
	if !ok {
		return fmt.Errorf("reading the report: %w", err)
	}
	if errors.Is(err, csv.ErrQuote) && r.source.ended && r.ahead.Buffered() == 0 {
		return cutOff(bad.StartLine)
	}
	return fmt.Errorf("line %d, character %d: %s", bad.Line, bad.Column, strings.ReplaceAll(bad.Err.Error(), `\"`, `"`))
}
