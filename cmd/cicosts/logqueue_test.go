package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// valve is a log's reader that can stall and fail. It locks with a channel, by
// which a bubble's time can pass.
type valve struct {
	lock   chan struct{} // has room for one; full while the reader stalls
	fails  bool
	text   bytes.Buffer
	writes int
}

func (v *valve) Write(p []byte) (int, error) {
	v.lock <- struct{}{}
	defer func() { <-v.lock }()
	if v.fails {
		return 0, errors.New("broken pipe")
	}
	v.writes++
	return v.text.Write(p)
}

// stall makes the reader stall until open is called.
func (v *valve) stall() (open func()) {
	v.lock <- struct{}{}
	return func() { <-v.lock }
}

func plain(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})
}

// withQueue runs fn on a queue, in a bubble of its own time.
func withQueue(t *testing.T, fn func(t *testing.T, q *logQueue, v *valve)) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{lock: make(chan struct{}, 1)}
		q := newLogQueue(v, plain)
		fn(t, q, v)
		q.close()
		synctest.Wait()
	})
}

func (v *valve) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if got, want := v.text.String(), strings.Join(lines, "\n")+"\n"; got != want {
		t.Errorf("the log has\n%swant\n%s", got, want)
	}
}

func TestLogQueueWritesInOrder(t *testing.T) {
	withQueue(t, func(t *testing.T, q *logQueue, v *valve) {
		log := q.logger()
		log.Info("a")
		log.Info("b", "n", 1)
		log.With("x", 2).Info("c")
		v.want(t, "msg=a", "msg=b n=1", "msg=c x=2")
	})
}

// A full queue drops lines, and the log says how many once it is read again.
func TestLogQueueDrops(t *testing.T) {
	withQueue(t, func(t *testing.T, q *logQueue, v *valve) {
		began := time.Now()
		open := v.stall()
		log := q.logger()
		log.Info("first")
		synctest.Wait() // it is being written
		line := strings.Repeat("x", logRoom/4-10)
		for range 7 {
			log.Info(line)
		}
		if n := q.dropped(); n != 3 {
			t.Errorf("%d lines are dropped, want 3", n)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the lines waited %v", took)
		}
		open()
		whole := "msg=" + line
		v.want(t, "msg=first", whole, whole, whole, whole, `msg="log lines were dropped: nothing read them in time" lines=3`)
		log.Info("last")
		v.want(t, "msg=first", whole, whole, whole, whole, `msg="log lines were dropped: nothing read them in time" lines=3`, "msg=last")
		if n := q.dropped(); n != 3 {
			t.Errorf("%d lines are dropped in all, want 3", n)
		}
	})
}

// Urgent lines have room when the queue is full, and are written first.
func TestLogQueuePrefersUrgentLines(t *testing.T) {
	withQueue(t, func(t *testing.T, q *logQueue, v *valve) {
		open := v.stall()
		log, urgent := q.logger(), q.urgentLogger()
		log.Info("first")
		synctest.Wait()
		line := strings.Repeat("x", logRoom/2-10)
		for range 3 {
			log.Info(line)
		}
		urgent.With("a", 1).Info("revoked")
		urgent.WithGroup("g").Info("revoked", "b", 2)
		open()
		v.want(t, "msg=first", "msg=revoked a=1", "msg=revoked g.b=2", "msg="+line, "msg="+line, `msg="log lines were dropped: nothing read them in time" lines=1`)
	})
}

// An urgent line waits until it is written. While nothing reads, it waits a
// second, and later ones do not wait for the same stall again.
func TestLogQueueWaitsForUrgentLines(t *testing.T) {
	withQueue(t, func(t *testing.T, q *logQueue, v *valve) {
		urgent := q.urgentLogger()
		urgent.Info("a")
		if v.text.String() != "msg=a\n" { // without a Wait
			t.Errorf("after an urgent line the log has %q", v.text.String())
		}

		open := v.stall()
		began := time.Now()
		var lines sync.WaitGroup
		for i := range 10 { // none of which waits for another
			lines.Go(func() { urgent.Info(fmt.Sprint(i)) })
		}
		lines.Wait()
		if took := time.Since(began); took != logPatience {
			t.Errorf("ten urgent lines waited %v, want %v", took, logPatience)
		}
		urgent.Info("b")
		if took := time.Since(began); took != logPatience {
			t.Errorf("one more waited, in all %v", took)
		}
		open()
		urgent.Info("c")
		synctest.Wait()
		if n := strings.Count(v.text.String(), "\n"); n != 13 || q.dropped() != 0 {
			t.Errorf("%d lines are written and %d dropped, want 13 and 0", n, q.dropped())
		}
	})
}

// There are bounds for urgent lines too, and closing waits only so long.
func TestLogQueueIsBounded(t *testing.T) {
	withQueue(t, func(t *testing.T, q *logQueue, v *valve) {
		open := v.stall()
		urgent := q.urgentLogger()
		line := strings.Repeat("x", urgentRoom/2)
		for range 5 { // of which one is being written and one waits
			urgent.Info(line)
		}
		if n := q.dropped(); n != 3 {
			t.Errorf("%d lines are dropped, want 3", n)
		}
		began := time.Now()
		q.close()
		if took := time.Since(began); took != logPatience {
			t.Errorf("closing took %v, want %v", took, logPatience)
		}
		q.logger().Info("late")
		if n := q.dropped(); n != 4 {
			t.Errorf("%d lines are dropped, want 4", n)
		}
		open()
		v.want(t, "msg="+line, "msg="+line, `msg="log lines were dropped: nothing read them in time" lines=4`)
	})
}

// A line that cannot be written is dropped and counted; those after it are written.
func TestLogQueueSurvivesErrors(t *testing.T) {
	withQueue(t, func(t *testing.T, q *logQueue, v *valve) {
		v.fails = true
		q.logger().Info("a")
		q.urgentLogger().Info("b")
		synctest.Wait()
		if n := q.dropped(); n != 2 {
			t.Errorf("%d lines are dropped, want 2", n)
		}
		v.fails = false
		q.logger().Info("c")
		v.want(t, "msg=c", `msg="log lines were dropped: nothing read them in time" lines=2`)
	})
}

// Lines that wait are written together, but only as many as stay together on a
// pipe that other processes write to.
func TestLogQueueBoundsWrites(t *testing.T) {
	withQueue(t, func(t *testing.T, q *logQueue, v *valve) {
		open := v.stall()
		log := q.logger()
		log.Info("first")
		synctest.Wait()
		line := strings.Repeat("x", logWrite/4-5) // with "msg=" and the newline a quarter
		for range 8 {
			log.Info(line)
		}
		log.Info(strings.Repeat("y", 2*logWrite))
		log.Info("last")
		open()
		synctest.Wait()
		if v.writes != 5 || q.dropped() != 0 {
			t.Errorf("%d writes and %d dropped lines, want 5 and 0", v.writes, q.dropped())
		}
	})
}
