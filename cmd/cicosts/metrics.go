package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cicosts/models"
	"cicosts/models/keyring"
	"cicosts/models/keytext"
	"cicosts/models/usage"
	"cicosts/web"
)

// metrics counts what the program does. Every series exists from the start, so that a rate is never missing and a request
// looks up no label. None has the id or the text of a key. It is safe for concurrent use.
type metrics struct {
	registry *prometheus.Registry

	checks    [web.Checks]prometheus.Counter
	requests  [web.Surfaces][6]prometheus.Counter // by the status's first digit
	durations [web.Surfaces]prometheus.Observer

	batchSizes  prometheus.Histogram
	lookups     prometheus.Histogram
	lookupFails prometheus.Counter

	flushed, flushFailed prometheus.Counter
	rowsSaved            prometheus.Counter
}

// newMetrics returns metrics at zero, in a registry of their own.
func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		batchSizes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cicosts_key_lookup_batch_size", Help: "Distinct key hashes in one lookup.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10), // to 512
		}),
		lookups: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cicosts_key_lookup_duration_seconds", Help: "How long the database took for one lookup of keys.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5},
		}),
		lookupFails: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cicosts_key_lookup_failures_total", Help: "Lookups of keys that failed or took too long.",
		}),
		rowsSaved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cicosts_usage_rows_saved_total", Help: "Rows of last uses, daily counts and refusals saved.",
		}),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.batchSizes, m.lookups, m.lookupFails, m.rowsSaved,
	)
	checks := m.counters("cicosts_api_requests_total", "API requests, by how the check of their key ended.", "outcome")
	for i := range m.checks {
		m.checks[i] = checks.WithLabelValues(web.Check(i).String())
	}
	requests := m.counters("cicosts_http_requests_total", "Requests, by what answered them and the class of the status.", "surface", "status")
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cicosts_http_request_duration_seconds", Help: "How long requests took, by what answered them.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
	}, []string{"surface"})
	m.registry.MustRegister(durations)
	for i := range m.requests {
		surface := web.Surface(i).String()
		m.durations[i] = durations.WithLabelValues(surface)
		for class := 2; class < len(m.requests[i]); class++ {
			m.requests[i][class] = requests.WithLabelValues(surface, strconv.Itoa(class)+"xx")
		}
	}
	flushes := m.counters("cicosts_usage_flushes_total", "Attempts to save what was gathered of the use of keys.", "result")
	m.flushed, m.flushFailed = flushes.WithLabelValues("ok"), flushes.WithLabelValues("failed")
	return m
}

func (m *metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

// countDropped shows how many uses of keys were thrown away.
func (m *metrics) countDropped(dropped func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "cicosts_usage_dropped_total", Help: "Uses of keys that were never saved: memory was full, or the database did not have the key or refused it.",
	}, func() float64 { return float64(dropped()) }))
}

// countLogDropped shows how many lines the log lacks.
func (m *metrics) countLogDropped(dropped func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "cicosts_log_lines_dropped_total", Help: "Log lines dropped, since nothing read them in time or writing failed.",
	}, func() float64 { return float64(dropped()) }))
}

// countInDoubt shows how many revocations are not known to be confirmed.
func (m *metrics) countInDoubt(inDoubt func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cicosts_revocations_in_doubt", Help: "Revocations that are not confirmed yet and are being retried.",
	}, func() float64 { return float64(inDoubt()) }))
}

// Checked implements web.Metrics.
func (m *metrics) Checked(check web.Check) { m.checks[check].Inc() }

// Answered implements web.Metrics.
func (m *metrics) Answered(surface web.Surface, status int, took time.Duration) {
	m.requests[surface][min(max(status/100, 2), 5)].Inc()
	m.durations[surface].Observe(took.Seconds())
}

// source counts the lookups of keys.
func (m *metrics) source(next keyring.Source) keyring.Source { return countedSource{next, m} }

type countedSource struct {
	next keyring.Source
	m    *metrics
}

func (s countedSource) KeysByHash(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	start := time.Now()
	found, err := s.next.KeysByHash(ctx, hashes, describe, found)
	s.m.lookups.Observe(time.Since(start).Seconds())
	s.m.batchSizes.Observe(float64(len(hashes)))
	if err != nil {
		s.m.lookupFails.Inc()
	}
	return found, err
}

// sink counts the flushes of what was gathered of the use of keys.
func (m *metrics) sink(next usage.Sink) usage.Sink { return countedSink{next, m} }

type countedSink struct {
	next usage.Sink
	m    *metrics
}

func (s countedSink) SaveUse(ctx context.Context, uses models.Uses) (dropped int64, err error) {
	dropped, err = s.next.SaveUse(ctx, uses)
	if err != nil {
		s.m.flushFailed.Inc()
		return dropped, err
	}
	s.m.flushed.Inc()
	s.m.rowsSaved.Add(float64(len(uses.Newest) + len(uses.Counts) + len(uses.Refusals)))
	return dropped, nil
}

// serve answers GET /metrics at the address, in Prometheus's text format, until the server is closed; with "" it does not.
// It asks nothing of the database. The server's Addr is the address bound, or "".
func (m *metrics) serve(addr string, log *slog.Logger) (*http.Server, error) {
	if addr == "" {
		return &http.Server{}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, cannotListen("listening for metrics", "CICOSTS_METRICS_ADDR or --metrics-addr", err)
	}
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: errorLog}))
	server := &http.Server{
		Addr: l.Addr().String(), Handler: mux, ErrorLog: errorLog,
		ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "error", err)
		}
	}()
	return server, nil
}
