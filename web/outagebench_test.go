package web

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"cicosts/models/store/storetest"
	"cicosts/models/usage"
	"cicosts/web/loadtest"
)

var outageFor = flag.Duration("outage", 10*time.Second, "how long each outage of BenchmarkOutage lasts")

// BenchmarkOutage takes the database away from a server that 64 connections keep busy, by stopping it and by freezing it,
// for as long as -outage says, and compares what the process holds before and after, at rest. It fails when goroutines or
// memory do not come back within 10 %.
func BenchmarkOutage(b *testing.B) {
	cluster := storetest.NewCluster(b)
	st := storetest.Open(b, cluster.Postgres(b))
	secret, _ := storetest.MustKey(b, st, storetest.MustOwner(b, st))
	uses := usage.New(usage.Config{Sink: st})
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = uses.Close(ctx)
	})
	srv := httptest.NewServer(newWhole(b, st, uses))
	b.Cleanup(srv.Close)
	load := func(status int, d time.Duration) *loadtest.Way {
		w := &loadtest.Way{Name: "load", Addr: srv.Listener.Addr().String(), Keys: []string{secret.Reveal()}, Status: status}
		loadtest.Turns(b, 1, 64, d, w)
		return w
	}
	for b.Loop() {
		for _, kind := range []struct {
			name       string
			begin, end func()
		}{
			{"stopped", func() { cluster.Stop(b) }, func() { cluster.Start(b) }},
			{"frozen", func() { cluster.Freeze(b) }, func() { cluster.Thaw(b) }},
		} {
			load(http.StatusOK, 3*time.Second)
			before := atRest()
			kind.begin()
			var requests int
			var p99, worst time.Duration
			for until := time.Now().Add(*outageFor); time.Now().Before(until); {
				w := load(http.StatusServiceUnavailable, min(5*time.Second, time.Until(until)))
				requests += w.Requests
				p99, worst = max(p99, loadtest.Percentile(w.Took, 99)), max(worst, loadtest.Percentile(w.Took, 100))
			}
			during := runtime.NumGoroutine()
			kind.end()
			restored := time.Now()
			awaitReady(b, srv.URL)
			back := time.Since(restored)
			load(http.StatusOK, 3*time.Second)
			after := atRest()
			for range 20 { // connections given up close in their own time
				if after.within(before) {
					break
				}
				time.Sleep(time.Second)
				after = atRest()
			}
			fmt.Printf("\n| database %s for %v under load: %d answers 503, p99 %v, at most %v; ready again after %v | before | after |\n|---|---|---|\n",
				kind.name, *outageFor, requests, round(p99), round(worst), back.Round(time.Millisecond))
			fmt.Printf("| goroutines (%d as the outage ended) | %d | %d |\n", during, before.goroutines, after.goroutines)
			fmt.Printf("| heap, KiB | %d | %d |\n| resident, KiB, clients included | %d | %d |\n", before.heap>>10, after.heap>>10, before.resident>>10, after.resident>>10)
			b.ReportMetric(float64(after.goroutines)/float64(before.goroutines), kind.name+"-goroutines")
			b.ReportMetric(float64(after.heap)/float64(before.heap), kind.name+"-heap")
			if !after.within(before) {
				b.Errorf("%s: held %+v before and %+v after", kind.name, before, after)
			}
		}
	}
}

// awaitReady waits until the server says that it can check keys.
func awaitReady(b *testing.B, address string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(address + "/readyz")
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	b.Error("not ready 30 s after the outage")
}

// holding is what the process holds, in bytes save for goroutines.
type holding struct {
	goroutines     int
	heap, resident uint64
}

func (h holding) within(before holding) bool {
	return h.goroutines*10 <= before.goroutines*11 && h.heap*10 <= before.heap*11
}

// atRest measures once the load's connections are closed on both sides and what they left is collected.
func atRest() holding {
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(500 * time.Millisecond)
	runtime.GC() // twice: pools are emptied by the second
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h := holding{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
	var size, resident uint64
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil { // Linux
		if _, err := fmt.Sscan(string(statm), &size, &resident); err == nil {
			h.resident = resident * uint64(os.Getpagesize())
		}
	}
	return h
}
