// Package billing reads GitHub's billing usage report as a stream: the detailed report of both generations and the
// summarized one (GitHub documentation, "Billing reports reference").
//
// It holds one row at a time, whatever the size of the file, and knows nothing of where rows go.
package billing

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"cicosts/models"
)

// maxRow is how many bytes a row may have. It bounds memory where a file has no line ends or a quote is never closed.
const maxRow = 1 << 20

// sniff is how many bytes of the file must look like text.
const sniff = 512

// Reader reads one report. It is for one goroutine.
type Reader struct {
	csv     *csv.Reader
	source  *source
	ahead   *bufio.Reader // what was read of source and not yet by csv
	columns columns
	read    int
	skipped int
}

// NewReader reads the header and says with an error of one line why r is not a report. It does not close r.
func NewReader(r io.Reader) (*Reader, error) {
	src := &source{r: r, left: maxRow}
	ahead := bufio.NewReader(src)
	if err := checkStart(ahead); err != nil {
		return nil, err
	}
	reader := &Reader{csv: csv.NewReader(ahead), source: src, ahead: ahead}
	reader.csv.FieldsPerRecord = -1 // checkShape says more
	reader.csv.ReuseRecord = true
	header, err := reader.csv.Read()
	if err != nil {
		return nil, reader.explain(err)
	}
	reader.columns, err = findColumns(header)
	return reader, err
}

// checkStart tells a file that cannot be a report at all from one with a mistake in it. It drops a byte order mark.
func checkStart(ahead *bufio.Reader) error {
	start, err := ahead.Peek(sniff)
	if after, marked := bytes.CutPrefix(start, []byte("\ufeff")); marked {
		_, _ = ahead.Discard(len(start) - len(after)) // just peeked
		start = after
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("reading the report: %w", err)
	case err != nil && len(bytes.TrimSpace(start)) == 0:
		return errors.New("the file is empty, want a GitHub billing usage report (CSV)")
	case err == nil:
		for range utf8.UTFMax - 1 { // a character may be cut at the end
			if r, size := utf8.DecodeLastRune(start); r == utf8.RuneError && size == 1 {
				start = start[:len(start)-1]
			}
		}
	}
	if !utf8.Valid(start) || bytes.IndexByte(start, 0) >= 0 {
		return errors.New("the file is not text in UTF-8, want a GitHub billing usage report (CSV)")
	}
	return nil
}

// Counts returns how many rows have been read so far, and how many of them were skipped for being no minutes of Actions.
func (r *Reader) Counts() (read, skipped int) { return r.read, r.skipped }

// Rows iterates over the rows that count minutes of Actions, once. An error, of one line, is the last thing it yields; for
// a bad value it is a *RowError.
func (r *Reader) Rows() iter.Seq2[models.ReportRow, error] {
	return func(yield func(models.ReportRow, error) bool) {
		for {
			row, err := r.next()
			if err == io.EOF || !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// next returns the next row that counts, or io.EOF as it is.
func (r *Reader) next() (models.ReportRow, error) {
	for {
		r.source.left = maxRow
		fields, err := r.csv.Read()
		if err == io.EOF {
			return models.ReportRow{}, err
		}
		if err != nil {
			return models.ReportRow{}, r.explain(err)
		}
		if err := r.checkShape(fields); err != nil {
			return models.ReportRow{}, err
		}
		r.read++
		if !r.columns.wants(fields) {
			r.skipped++
			continue
		}
		row, err := r.columns.parse(fields)
		if bad, ok := errors.AsType[*RowError](err); ok {
			bad.Line, _ = r.csv.FieldPos(bad.index)
		}
		return row, err
	}
}
