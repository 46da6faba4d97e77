// Package loadtest keeps servers busy over loopback and measures how fast they
// answer, for benchmarks that compare ways to serve the same request. Only
// tests import it.
package loadtest

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Way is one way to serve a request, and the measurements of all its turns. It
// is not safe for concurrent use.
type Way struct {
	Name, Addr string
	Path       string   // "" is /v1/key
	Keys       []string // presented in turn; each connection begins with another one
	Status     int      // the answer to count; 0: 200

	Took     []time.Duration // of each counted request
	Requests int             // counted ones
	Others   int             // answered with another status

	perSecond []float64 // of each turn
}

// Rate returns the median of the turns, in requests a second.
func (w *Way) Rate() float64 { return Percentile(w.perSecond, 50) }

// Percentile returns the value that p percent of values lie below, or zero for
// no values.
func Percentile[T float64 | time.Duration](values []T, p int) T {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return s[min(len(s)*p/100, len(s)-1)]
}

// Turns gives the ways the same load for d each, in turns, so that other work
// of the machine slows all of them. It fails the benchmark if a way has more
// than one other answer in a hundred.
func Turns(b *testing.B, rounds, connections int, d time.Duration, ways ...*Way) {
	b.Helper()
	for range rounds {
		for _, w := range ways {
			w.Turn(b, connections, d)
		}
	}
	for _, w := range ways {
		if w.Requests == 0 || w.Others*100 > w.Requests {
			b.Errorf("%s: %d requests with the answer expected, %d with another", w.Name, w.Requests, w.Others)
		}
	}
}

// Turn keeps this many connections busy for d.
func (w *Way) Turn(b *testing.B, connections int, d time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	before, start := w.Requests, time.Now()
	for i := range connections {
		wg.Go(func() {
			took, others, err := w.hammer(i, start.Add(d))
			if err != nil {
				b.Errorf("%s: %v", w.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			w.Took = append(w.Took, took...)
			w.Requests += len(took)
			w.Others += others
		})
	}
	wg.Wait()
	w.perSecond = append(w.perSecond, float64(w.Requests-before)/time.Since(start).Seconds())
}

// hammer sends one request after the other on one connection.
func (w *Way) hammer(first int, until time.Time) (took []time.Duration, others int, err error) {
	conn, err := net.Dial("tcp", w.Addr)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(until.Add(10 * time.Second)); err != nil {
		return nil, 0, err
	}
	path, want := cmp.Or(w.Path, "/v1/key"), cmp.Or(w.Status, http.StatusOK)
	var requests [][]byte
	for _, key := range w.Keys {
		requests = append(requests, []byte("GET "+path+" HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer "+key+"\r\n\r\n"))
	}
	took = make([]time.Duration, 0, 1024)
	answers := bufio.NewReader(conn)
	for now, i := time.Now(), first; now.Before(until); i++ {
		if _, err := conn.Write(requests[i%len(requests)]); err != nil {
			return took, others, err
		}
		status, err := ReadAnswer(answers)
		if err != nil {
			return took, others, err
		}
		end := time.Now()
		if status == want {
			took = append(took, end.Sub(now))
		} else {
			others++
		}
		now = end
	}
	return took, others, nil
}

// ReadAnswer reads an answer that has a Content-Length, cheaply, and returns
// its status.
func ReadAnswer(r *bufio.Reader) (status int, err error) {
	length := -1
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if n == 0 {
			if len(line) < 12 {
				return 0, fmt.Errorf("no status in %q", line)
			}
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
		} else if len(line) == 0 {
			break
		} else if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, fmt.Errorf("an answer with status %d has no length", status)
	}
	_, err = r.Discard(length)
	return status, err
}
