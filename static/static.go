// Package static holds the files a browser loads beside the pages, inside the program, and serves them under names that
// change with their content, so that they may be kept for ever.
//
// htmx-2.0.11.min.js is dist/htmx.min.js of the npm package htmx.org 2.0.11 (Zero-Clause BSD), unchanged; a test compares
// its SHA-256. screenshot.png is for the README and is not embedded.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// Prefix is what the path of every file begins with.
const Prefix = "/static/"

//go:embed app.css app.js htmx-2.0.11.min.js icon.svg
var files embed.FS

// The files, by what they are for.
var (
	CSS  = load("app.css")
	JS   = load("app.js")
	HTMX = load("htmx-2.0.11.min.js")
	Icon = load("icon.svg")
)

// File is one embedded file.
type File struct {
	// URL is its path on the server.
	URL string

	contentType string
	body        []byte
	gzipped     func() []byte
}

var byURL = map[string]*File{}

// load panics where the file is missing, which the build has prevented.
func load(name string) *File {
	body, err := files.ReadFile(name)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(body)
	ext := path.Ext(name)
	f := &File{
		URL:         Prefix + strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(sum[:6]) + ext,
		contentType: mime.TypeByExtension(ext),
		body:        body,
		gzipped:     sync.OnceValue(func() []byte { return compress(body) }),
	}
	byURL[f.URL] = f
	return f
}

func compress(body []byte) []byte {
	var buf bytes.Buffer
	w, _ := gzip.NewWriterLevel(&buf, gzip.BestCompression) // the level is valid
	_, _ = w.Write(body)                                    // a bytes.Buffer, which cannot fail
	_ = w.Close()
	return buf.Bytes()
}

// Serve answers with the file whose URL is asked for, or 404; as gzip if the
// client accepts that.
func Serve(w http.ResponseWriter, r *http.Request, acceptsGzip bool) {
	f, ok := byURL[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.body
	if acceptsGzip {
		h.Set("Content-Encoding", "gzip")
		body = f.gzipped()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that has gone away is no concern of ours
}
