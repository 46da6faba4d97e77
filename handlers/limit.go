package handlers

import (
	"slices"
	"sync"
	"time"
)

// limiter holds a token bucket for each key: burst tokens, then one each time
// that every has passed. It takes constant memory and constant work for any
// number of keys. Keys that share cells of the sketch may be limited
// together. It counts in this process alone, so n replicas let through at most
// n times as much.
//
// A limiter is not safe for concurrent use.
type limiter struct {
	every time.Duration
	burst int
	now   func() time.Time
	start time.Time
	full  *sketch // when each key's bucket will be full, in nanoseconds after start
}

func newLimiter(every time.Duration, burst int, now func() time.Time) *limiter {
	return &limiter{every: every, burst: burst, now: now, start: now(), full: newSketch()}
}

// take takes a token of the key. Without one it returns false and how long
// until the next.
func (l *limiter) take(at cells) (wait time.Duration, ok bool) {
	now := l.elapsed()
	full := max(l.full.get(at), now) + int64(l.every)
	if wait := full - now - int64(l.burst)*int64(l.every); wait > 0 {
		return time.Duration(wait), false
	}
	l.full.raise(at, full)
	return 0, true
}

// giveBack puts a token back that take took.
func (l *limiter) giveBack(at cells) { l.full.lower(at, l.full.get(at)-int64(l.every)) }

// isFull reports whether the key has all of its tokens.
func (l *limiter) isFull(at cells) bool { return l.full.get(at) <= l.elapsed() }

// fill gives the key all of its tokens.
func (l *limiter) fill(at cells) { l.full.lower(at, l.elapsed()) }

func (l *limiter) elapsed() int64 { return int64(l.now().Sub(l.start)) }

// window lets each key take so many in any span of time, in this process
// alone. A token bucket of the same size would let nearly twice as many through
// in the first span. It remembers the keys of the last two spans, which are
// people who are signed in. It is safe for concurrent use.
type window struct {
	most int
	span time.Duration
	now  func() time.Time

	mu            sync.Mutex
	began         time.Time              // when recent was made
	recent, older map[string][]time.Time // by key, what was taken, oldest first
}

func newWindow(most int, span time.Duration, now func() time.Time) *window {
	return &window{most: most, span: span, now: now, began: now(), recent: map[string][]time.Time{}}
}

// take takes one and reports whether there was one left, and how long until the
// next otherwise.
func (w *window) take(key string) (ok bool, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if now.Sub(w.began) >= w.span {
		w.began, w.recent, w.older = now, map[string][]time.Time{}, w.recent
	}
	taken, seen := w.recent[key]
	if !seen {
		taken = w.older[key]
	}
	taken = slices.DeleteFunc(taken, func(t time.Time) bool { return now.Sub(t) >= w.span })
	if ok = len(taken) < w.most; ok {
		taken = append(taken, now)
	} else {
		wait = w.span - now.Sub(taken[0])
	}
	w.recent[key] = taken
	return ok, wait
}
