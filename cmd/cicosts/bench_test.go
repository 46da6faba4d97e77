package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

// BenchmarkStart starts the built program on an existing database and reports how long it takes to answer and how much
// memory it holds then (Linux).
func BenchmarkStart(b *testing.B) {
	bin := buildProgram(b)
	for name, url := range map[string]string{"sqlite": storetest.SQLite(b), "postgres": storetest.Postgres(b)} {
		b.Run(name, func(b *testing.B) {
			startOnce(b, bin, url) // so that the secret exists
			var took time.Duration
			var resident, starts float64
			for b.Loop() {
				t, kib := startOnce(b, bin, url)
				took += t
				resident += kib
				starts++
			}
			b.ReportMetric(float64(took.Milliseconds())/starts, "ms-to-answer")
			b.ReportMetric(resident/starts/1024, "MiB-resident")
		})
	}
}

// startOnce returns how long the program took to answer, and its resident memory in KiB.
func startOnce(b *testing.B, bin, url string) (time.Duration, float64) {
	cmd := exec.CommandContext(b.Context(), bin, "serve", "--addr", "127.0.0.1:0", "--database-url", url)
	cmd.Env = []string{"CICOSTS_SECRET=" + testSecret}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(stderr)
	var record struct{ Addr string }
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &record) != nil || record.Addr == "" {
		b.Fatalf("no address in %q", lines.Text())
	}
	resp, err := http.Get("http://" + record.Addr + "/healthz")
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	took := time.Since(start)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		b.Skip("the memory is read from /proc, which only Linux has")
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			return took, kib
		}
	}
	b.Fatal("no VmRSS in the status")
	return 0, 0
}
