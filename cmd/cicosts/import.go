package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cicosts/models"
	"cicosts/models/billing"
	"cicosts/models/store"
)

// importReport imports GitHub's billing usage report from file, "-" being in, into the named account, and writes a line
// that sums it up to out. progress is the terminal to draw a bar on, or nil. An error leaves the data as it was.
func importReport(ctx context.Context, st *store.Store, file, account string, in io.Reader, progress, out io.Writer) error {
	name, size := "standard input", int64(0)
	if file != "-" {
		f, bytes, err := openReport(file)
		if err != nil {
			return err
		}
		defer f.Close()
		name, size, in = filepath.Base(file), bytes, f
	}
	bar := newBar(progress, size)
	defer bar.clear()
	report, err := billing.NewReader(bar.watch(in))
	if err != nil {
		return fmt.Errorf("importing %s: %w", named(name), err)
	}
	to, err := st.AccountByName(ctx, account)
	if errors.Is(err, models.ErrNotFound) {
		return fmt.Errorf("there is no account %s: an import does not create one, see \"cicosts user add\"", named(account))
	}
	if err != nil {
		return fmt.Errorf("importing %s: %w", named(name), err)
	}
	totals, err := st.ReplaceReport(ctx, models.Operator, to.ID, name, report.Rows())
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("importing %s: interrupted", named(name))
	case err != nil:
		return fmt.Errorf("importing %s: %w", named(name), err)
	}
	bar.clear()
	read, skipped := report.Counts()
	_, err = fmt.Fprintln(out, summary(read, skipped, totals))
	return err
}

func summary(read, skipped int, t models.ReportTotals) string {
	line := fmt.Sprintf("%d rows read, %d kept, %d skipped", read, t.Rows, skipped)
	if t.Rows == 0 {
		return line + ": no minutes of GitHub Actions"
	}
	return fmt.Sprintf("%s; %s to %s; total %s USD", line, t.First, t.Last, t.Cost)
}

// openReport opens the file and returns its size, 0 where it has none, as a pipe.
func openReport(file string) (*os.File, int64, error) {
	f, err := os.Open(file)
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil && !info.IsDir() {
			return f, info.Size(), nil
		}
		f.Close()
	}
	if err == nil {
		return nil, 0, fmt.Errorf("opening %s: it is a directory, want a GitHub billing usage report (CSV)", named(file))
	}
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		err = at.Err // which leaves out the name, as it may hold line breaks
	}
	return nil, 0, fmt.Errorf("opening %s: %w", named(file), err)
}

// bar draws how much of a file has been read. With no terminal it draws nothing.
type bar struct {
	terminal io.Writer
	size     int64 // 0: not known
	read     int64
	drawn    int64 // the last step drawn, plus one; 0: the line is clear
}

func newBar(terminal io.Writer, size int64) *bar { return &bar{terminal: terminal, size: size} }

// watch returns r, drawing as it is read.
func (b *bar) watch(r io.Reader) io.Reader {
	if b.terminal == nil {
		return r
	}
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		b.read += int64(n)
		b.draw(err == io.EOF)
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// draw draws whenever another percent, or MiB where the size is not known, has been read. The file is stored only when it
// has all been read.
func (b *bar) draw(ended bool) {
	const width, mib = 30, 1 << 20
	step, text := b.read/mib, fmt.Sprintf("reading: %d MiB", b.read/mib)
	if b.size > 0 {
		step = min(100*b.read/b.size, 100)
		done := int(step) * width / 100
		text = fmt.Sprintf("reading [%s%s] %3d %%", strings.Repeat("#", done), strings.Repeat(".", width-done), step)
	}
	if ended {
		text += ", storing"
	} else if b.drawn == step+1 {
		return
	}
	b.drawn = step + 1
	_, _ = fmt.Fprintf(b.terminal, "\r\x1b[K%s", text)
}

// clear removes what was drawn.
func (b *bar) clear() {
	if b.drawn > 0 {
		_, _ = fmt.Fprint(b.terminal, "\r\x1b[K")
	}
	b.drawn = 0
}
