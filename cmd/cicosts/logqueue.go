package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// logRoom is how many bytes of lines wait for the log's reader at most,
	// which is about 16,000 lines. Urgent lines have room of their own.
	logRoom, urgentRoom = 4 << 20, 1 << 20
	// logPatience is how long a caller waits for the log's reader in all.
	logPatience = time.Second
	// logWrite bounds a write, single lines aside: Linux keeps writes of that
	// size to a pipe together when other processes write to it too.
	logWrite = 4 << 10
)

// A logQueue writes log lines from a goroutine of its own, so that a stalled or
// closed reader holds up nothing else. A line without room, or one that cannot
// be written, is dropped and counted. It is safe for concurrent use.
//
// Urgent lines overtake others. A caller that logs one waits until it is
// written, but at most logPatience. It does not wait at all when the reader has
// already stalled for that long.
type logQueue struct {
	w       io.Writer
	handler func(io.Writer) slog.Handler
	ended   chan struct{} // closed when the goroutine has ended

	batch []byte // what is being written; the goroutine's
	told  int64  // how many dropped lines the log tells of; the goroutine's

	mu      sync.Mutex // guards what follows
	changed sync.Cond  // lines were added, or closed was set
	lines   bytes.Buffer
	urgent  bytes.Buffer
	written chan struct{} // closed when the urgent lines added last are written
	since   time.Time     // when the write under way began; zero when none is
	drops   int64
	closed  bool
}

// newLogQueue returns a queue for w of lines as the handlers write them, and
// starts its goroutine. Close it to end that.
func newLogQueue(w io.Writer, handler func(io.Writer) slog.Handler) *logQueue {
	q := &logQueue{w: w, handler: handler, ended: make(chan struct{}), written: make(chan struct{})}
	close(q.written)
	q.changed.L = &q.mu
	go q.run()
	return q
}

// logger returns a logger that never waits.
func (q *logQueue) logger() *slog.Logger { return slog.New(q.handler(writerFunc(q.add))) }

// urgentLogger returns a logger of urgent lines.
func (q *logQueue) urgentLogger() *slog.Logger {
	return slog.New(patientHandler{q.handler(writerFunc(q.addUrgent)), q})
}

// dropped returns how many lines were dropped.
func (q *logQueue) dropped() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.drops
}

// print writes a line as it is, as an urgent one, without a record around it.
func (q *logQueue) print(line string) {
	_, _ = q.addUrgent([]byte(line)) // always nil
	q.await()
}

// close waits until what is queued is written, but no longer than logPatience.
// Later lines are dropped.
func (q *logQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.changed.Signal()
	q.mu.Unlock()
	select {
	case <-q.ended:
	case <-time.After(logPatience):
	}
}

// add queues one line.
func (q *logQueue) add(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.put(&q.lines, logRoom, line)
	return len(line), nil
}

// addUrgent queues one urgent line.
func (q *logQueue) addUrgent(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := q.urgent.Len() == 0
	if q.put(&q.urgent, urgentRoom, line) && first {
		q.written = make(chan struct{})
	}
	return len(line), nil
}

// put must be called with mu held. It reports whether there was room.
func (q *logQueue) put(to *bytes.Buffer, room int, line []byte) bool {
	if q.closed || to.Len()+len(line) > room {
		q.drops++
		return false
	}
	to.Write(line)
	q.changed.Signal()
	return true
}

// await waits until the urgent lines added before are written.
func (q *logQueue) await() {
	q.mu.Lock()
	written, patience := q.written, logPatience
	if !q.since.IsZero() {
		patience -= time.Since(q.since)
	}
	q.mu.Unlock()
	if patience <= 0 {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-written:
	case <-timer.C:
	}
}

// run writes lines until the queue is closed and empty.
func (q *logQueue) run() {
	defer close(q.ended)
	for {
		written := q.take()
		if len(q.batch) == 0 {
			return
		}
		err := q.write(q.batch)
		if written != nil {
			close(written)
		}
		if err == nil {
			q.tell()
		}
	}
}

// take waits for lines and moves some to the batch, or none once the queue is
// closed and empty. It takes all urgent lines and returns the channel to close.
func (q *logQueue) take() (written chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.urgent.Len() == 0 && q.lines.Len() == 0 && !q.closed {
		q.changed.Wait()
	}
	if q.urgent.Len() > 0 {
		q.batch = append(q.batch[:0], q.urgent.Next(q.urgent.Len())...)
		return q.written
	}
	q.batch = append(q.batch[:0], q.lines.Next(wholeLines(q.lines.Bytes()))...)
	return nil
}

// wholeLines returns the length of the first lines: as many as one write may
// have, but at least one.
func wholeLines(lines []byte) int {
	if len(lines) <= logWrite {
		return len(lines)
	}
	if end := bytes.LastIndexByte(lines[:logWrite], '\n'); end >= 0 {
		return end + 1
	}
	return bytes.IndexByte(lines, '\n') + 1
}

// write writes lines and counts those that it could not write.
func (q *logQueue) write(lines []byte) error {
	q.mu.Lock()
	q.since = time.Now()
	q.mu.Unlock()
	n, err := q.w.Write(lines)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.since = time.Time{}
	if err != nil {
		q.drops += int64(bytes.Count(lines[n:], []byte("\n")))
	}
	return err
}

// tell writes how many lines were dropped since it told last, once the reader
// has caught up.
func (q *logQueue) tell() {
	q.mu.Lock()
	waiting, dropped := q.urgent.Len()+q.lines.Len(), q.drops-q.told
	q.mu.Unlock()
	if waiting > 0 || dropped == 0 {
		return
	}
	var line bytes.Buffer
	slog.New(q.handler(&line)).Warn("log lines were dropped: nothing read them in time", "lines", dropped)
	if q.write(line.Bytes()) == nil {
		q.told += dropped
	}
}

// writerFunc is a function that is an io.Writer.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// patientHandler waits until a record is written, as the queue waits for urgent
// lines. It waits outside of the handler's lock, so that each record waits for
// itself alone.
type patientHandler struct {
	slog.Handler
	q *logQueue
}

func (h patientHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	h.q.await()
	return err
}

func (h patientHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return patientHandler{h.Handler.WithAttrs(attrs), h.q}
}

func (h patientHandler) WithGroup(name string) slog.Handler {
	return patientHandler{h.Handler.WithGroup(name), h.q}
}
