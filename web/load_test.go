package web

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

// way is one way to serve a request, and what it came to over all its turns.
type way struct {
	name, addr string
	path       string   // "" is /v1/answer
	keys       []string // presented in turn, each connection beginning with another one
	status     int      // the answer counted; 0: 200

	perSecond []float64 // of each turn
	took      []time.Duration
	requests  int // counted ones
	others    int // answered with another status
}

// rate is the median of the turns, in requests a second.
func (w *way) rate() float64 { return percentile(w.perSecond, 50) }

func percentile[T float64 | time.Duration](values []T, p int) T {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return s[min(len(s)*p/100, len(s)-1)]
}

// turns gives the ways the same load for a while each, in turns, so that whatever else the machine does befalls all.
func turns(b *testing.B, rounds, connections int, d time.Duration, ways ...*way) {
	for range rounds {
		for _, w := range ways {
			w.turn(b, connections, d)
		}
	}
	for _, w := range ways {
		if w.requests == 0 || w.others*100 > w.requests {
			b.Errorf("%s: %d requests with the answer expected, %d with another", w.name, w.requests, w.others)
		}
	}
}

// turn keeps connections busy for a while.
func (w *way) turn(b *testing.B, connections int, d time.Duration) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	before, start := w.requests, time.Now()
	for i := range connections {
		wg.Go(func() {
			took, others, err := w.hammer(i, start.Add(d))
			if err != nil {
				b.Errorf("%s: %v", w.name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			w.took = append(w.took, took...)
			w.requests += len(took)
			w.others += others
		})
	}
	wg.Wait()
	w.perSecond = append(w.perSecond, float64(w.requests-before)/time.Since(start).Seconds())
}

// hammer sends one request after the other on one connection.
func (w *way) hammer(first int, until time.Time) (took []time.Duration, others int, err error) {
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(until.Add(10 * time.Second)); err != nil {
		return nil, 0, err
	}
	path, want := cmp.Or(w.path, "/v1/answer"), cmp.Or(w.status, http.StatusOK)
	var requests [][]byte
	for _, key := range w.keys {
		requests = append(requests, []byte("GET "+path+" HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer "+key+"\r\n\r\n"))
	}
	took = make([]time.Duration, 0, 1024)
	answers := bufio.NewReader(conn)
	for now, i := time.Now(), first; now.Before(until); i++ {
		if _, err := conn.Write(requests[i%len(requests)]); err != nil {
			return took, others, err
		}
		status, err := readAnswer(answers)
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

// readAnswer reads an answer that has a Content-Length, cheaply, and returns its status.
func readAnswer(r *bufio.Reader) (status int, err error) {
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
