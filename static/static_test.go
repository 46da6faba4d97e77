package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func get(url string, gzip bool) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	Serve(w, httptest.NewRequest(http.MethodGet, url, http.NoBody), gzip)
	return w
}

// The release's own file, by the SHA-256 of dist/htmx.min.js in the npm package htmx.org 2.0.11.
func TestHTMXIsTheRelease(t *testing.T) {
	const want = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
	sum := sha256.Sum256(get(HTMX.URL, false).Body.Bytes())
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("htmx has the SHA-256 %s, want %s", got, want)
	}
}

func TestFilesAreSmall(t *testing.T) {
	const limit = 40 << 10
	total := 0
	for _, f := range []*File{CSS, JS, HTMX} {
		total += get(f.URL, true).Body.Len()
	}
	if total > limit {
		t.Errorf("styles and scripts have %d bytes compressed, more than %d", total, limit)
	}
}

func TestFiles(t *testing.T) {
	for f, kind := range map[*File]string{CSS: "text/css", JS: "javascript", HTMX: "javascript", Icon: "image/svg+xml"} {
		plain, packed := get(f.URL, false), get(f.URL, true)
		if plain.Code != http.StatusOK || packed.Code != http.StatusOK || plain.Body.Len() == 0 {
			t.Fatalf("%s: %d, %d", f.URL, plain.Code, packed.Code)
		}
		r, err := gzip.NewReader(packed.Body)
		if err != nil {
			t.Fatalf("%s: %v", f.URL, err)
		}
		if unpacked, err := io.ReadAll(r); err != nil || !bytes.Equal(unpacked, plain.Body.Bytes()) {
			t.Errorf("%s differs when compressed (error: %v)", f.URL, err)
		}
		sum := sha256.Sum256(plain.Body.Bytes())
		if !strings.Contains(f.URL, hex.EncodeToString(sum[:6])) {
			t.Errorf("the name %s does not change with the content", f.URL)
		}
		h := packed.Header()
		if h.Get("Cache-Control") != "public, max-age=31536000, immutable" || h.Get("Vary") != "Accept-Encoding" || h.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: headers %v", f.URL, h)
		}
		if !strings.Contains(h.Get("Content-Type"), kind) {
			t.Errorf("%s: type %q, want %s", f.URL, h.Get("Content-Type"), kind)
		}
		if plain.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed for a client that has not asked", f.URL)
		}
	}
}

func TestOtherNamesAreNotFound(t *testing.T) {
	for _, url := range []string{Prefix, Prefix + "app.css", Prefix + "app-000000000000.css", Prefix + "static.go", CSS.URL + "/", "/app.css"} {
		w := get(url, true)
		if w.Code != http.StatusNotFound || strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %v", url, w.Code, w.Header())
		}
	}
}
