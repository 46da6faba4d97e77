package web

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"sync"

	"github.com/labstack/echo/v4"
)

const (
	// minCompressed is the size in bytes from which an answer is worth
	// compressing.
	minCompressed = 1 << 10
	// gzipLevel is chosen by BenchmarkCompress, on a page of 50 keys:
	// gzip.DefaultCompression takes twice as long for a twentieth fewer
	// bytes, and gzip.BestSpeed takes as long for a seventh more.
	gzipLevel = 3
)

// gzipWriters keeps writers for reuse, because each holds most of a megabyte.
var gzipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzipLevel)
	if err != nil {
		panic(err) // only for a level that does not exist
	}
	return w
}}

// compress sends answers of minCompressed bytes or more as gzip to clients that
// accept it, except those of the routes in s.plain. It compresses errors too,
// so it must stand before the middleware that writes them.
func (s *server) compress(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.plain[c.Request().Method+" "+c.Path()] {
			return next(c)
		}
		res := c.Response()
		w := &compressor{ResponseWriter: res.Writer, asked: c.Request().Header}
		res.Writer = w
		err := next(c)
		res.Writer = w.ResponseWriter
		w.finish()
		return err
	}
}

// compressor decides on the first write whether to compress, because pages and
// endpoints write their answer at once. An answer that begins with less than
// minCompressed bytes is sent as it is. It cannot flush.
type compressor struct {
	http.ResponseWriter
	asked  http.Header // of the request
	status int         // not sent yet; 0: none, or sent
	begun  bool
	gzip   *gzip.Writer // nil: the answer is sent as it is
	buf    bytes.Buffer // what gzip has written
}

// WriteHeader keeps the status until the headers are known.
func (w *compressor) WriteHeader(status int) {
	if status < http.StatusOK {
		w.ResponseWriter.WriteHeader(status) // informational; the answer follows
		return
	}
	w.status = status
}

func (w *compressor) Write(p []byte) (int, error) {
	if !w.begun {
		w.begin(len(p))
	}
	if w.gzip != nil {
		return w.gzip.Write(p)
	}
	return w.ResponseWriter.Write(p)
}

func (w *compressor) begin(size int) {
	w.begun = true
	h := w.Header()
	if size >= minCompressed && h.Get(echo.HeaderContentEncoding) == "" {
		h.Add(echo.HeaderVary, echo.HeaderAcceptEncoding)
		if acceptsGzip(w.asked) {
			h.Set(echo.HeaderContentEncoding, "gzip")
			w.gzip = gzipWriters.Get().(*gzip.Writer)
			w.gzip.Reset(&w.buf)
			return
		}
	}
	w.sendStatus()
}

func (w *compressor) sendStatus() {
	if w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
		w.status = 0
	}
}

// finish sends what is left. A client that has gone away is not told.
func (w *compressor) finish() {
	if w.gzip == nil {
		w.sendStatus()
		return
	}
	_ = w.gzip.Close() // into a bytes.Buffer, which cannot fail
	w.gzip.Reset(nil)
	gzipWriters.Put(w.gzip) // before a slow client can hold it
	w.Header().Set(echo.HeaderContentLength, strconv.Itoa(w.buf.Len()))
	w.sendStatus()
	_, _ = w.ResponseWriter.Write(w.buf.Bytes())
}
