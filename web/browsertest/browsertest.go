// Package browsertest drives a headless Chromium in tests: pages are opened, filled in and read as a person would, and
// what the browser complains about is kept for the test to see. It is imported by tests only.
//
// Everything works with JavaScript switched off too, except promises given to Eval.
package browsertest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// A page has this long to do what is asked of it. Nothing sleeps that long: it is when a test gives up.
const (
	startTimeout  = 60 * time.Second
	actionTimeout = time.Minute
	pause         = 10 * time.Millisecond // between two looks
)

// Browser is a running Chromium. It is safe for concurrent use.
type Browser struct{ ctx context.Context }

// View is how a page is looked at. The zero View is a desktop, light, with JavaScript.
type View struct {
	Width, Height int // CSS pixels; zero means 1280 by 800
	Dark          bool
	NoScript      bool
}

// Start starts a browser with an empty profile; it ends with the test. The test is skipped with -short and where Chromium
// is not installed; with CI set a missing Chromium fails it. Starting takes a second or more, so share one among subtests.
func Start(t testing.TB) *Browser {
	t.Helper()
	if testing.Short() {
		t.Skip("browser tests are not short")
	}
	path := find()
	if path == "" {
		if os.Getenv("CI") == "" {
			t.Skip("Chromium is not installed: apt-get install chromium, or run make test as root")
		}
		t.Fatal("Chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		cancel()
		stop() // waits until the process is gone and its profile removed
	})
	started := make(chan error, 1)
	// Not with a context that ends at a deadline: it would be the browser's lifetime.
	go func() { started <- chromedp.Do(ctx) }()
	select {
	case err := <-started:
		if err != nil {
			t.Fatalf("starting %s: %v", path, err)
		}
	case <-time.After(startTimeout):
		t.Fatalf("starting %s: nothing after %v", path, startTimeout)
	}
	return &Browser{ctx: ctx}
}

func find() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Open opens an empty page that shares no cookies with any other; it closes with the test.
func (b *Browser) Open(t testing.TB, v View) *Page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &Page{ctx: ctx}
	for _, listener := range []func(any){p.record, p.answer(ctx)} {
		if err := chromedp.Listen(ctx, listener); err != nil {
			t.Fatalf("opening a page: %v", err)
		}
	}
	p.Look(t, v)
	t.Cleanup(func() {
		if t.Failed() {
			p.Screenshot(t, "failed "+t.Name())
		}
	})
	return p
}

// Look changes how the page is looked at. JavaScript is switched from the next document on.
func (p *Page) Look(t testing.TB, v View) {
	t.Helper()
	if v.Width == 0 {
		v.Width, v.Height = 1280, 800
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	p.noScript = v.NoScript
	p.do(t, "changing the view", chromedp.Steps(
		chromedp.EmulateViewport(int64(v.Width), int64(v.Height)),
		chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			return errors.Join(err, setScript(ctx, !v.NoScript))
		}),
	))
}

func setScript(ctx context.Context, on bool) error {
	_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
	return err
}
