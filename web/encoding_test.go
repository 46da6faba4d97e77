package web

import (
	"net/http"
	"strings"
	"testing"
)

func TestAcceptsGzip(t *testing.T) {
	for _, tt := range []struct {
		lines string // separated by |
		want  bool
	}{
		{"gzip", true},
		{"gzip, deflate, br, zstd", true},
		{"br;q=1.0, gzip;q=0.8, *;q=0.1", true},
		{"deflate|gzip", true},
		{"GZIP", true},
		{"GZip;Q=0.5", true},
		{"x-gzip", true},
		{"X-GZIP;q=1", true},
		{" \tgzip\t; q=0.001 ,", true},
		{"gzip;q=1.000", true},
		{"*", true},
		{"*;q=0.5", true},
		{"identity;q=0, *", true},
		{"identity;q=0.5, gzip", true},
		{"identity, gzip", true}, // as welcome, and shorter
		{"identity;q=0, gzip;q=0.1", true},
		{"*;q=0, gzip", true},
		{"deflate,,gzip", true},

		{"gzip;q=0", false},
		{"gzip;q=0.0", false},
		{"gzip;q=0.000", false},
		{"gzip;q=0.", false},
		{"GZIP;Q=0", false},
		{"gzip ; q=0", false},
		{"x-gzip;q=0", false},
		{"gzip;q=0, *", false},
		{"*, gzip;q=0", false},
		{"*|gzip;q=0", false},
		{"gzip|gzip;q=0", false},
		{"gzip, x-gzip;q=0", false},
		{"*;q=0", false},
		{"*;q=0.0", false},
		{"identity", false},
		{"identity;q=1, gzip;q=0.5", false},
		{"identity, *;q=0.5", false},
		{"", false},
		{",", false},
		{"br", false},
		{"gzipped", false},
		{"not-gzip", false},
		{"deflate;q=0.5, br", false},

		// Malformed about gzip.
		{"gzip;q=", false},
		{"gzip;q=x", false},
		{"gzip;q=-1", false},
		{"gzip;q=2", false},
		{"gzip;q=1.001", false},
		{"gzip;q=0.5000", false},
		{"gzip;q=00", false},
		{"gzip;q=0.+1", false},
		{"gzip;level=9", false},
		{"gzip;", false},
		{"gzip;q=1;q=0", false},
		{"gzip q=1", false},
	} {
		h := http.Header{"Accept-Encoding": strings.Split(tt.lines, "|")}
		if got := acceptsGzip(h); got != tt.want {
			t.Errorf("Accept-Encoding: %q: %t, want %t", tt.lines, got, tt.want)
		}
	}
	if acceptsGzip(http.Header{}) {
		t.Error("a client that sends no Accept-Encoding is sent gzip")
	}
}
