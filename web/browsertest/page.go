package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Keys for Press.
const (
	KeyEnter  = kb.Enter
	KeyEscape = kb.Escape
	KeyTab    = kb.Tab
)

// Page is a tab. Its methods end the test where they fail, and wait for an element that is not there yet. A selector is
// CSS and means the first match. It is for one goroutine at a time.
type Page struct {
	ctx      context.Context
	noScript bool
	recorder
	leaving
}

// Go loads url and returns the status of its document.
func (p *Page) Go(t testing.TB, url string) int {
	t.Helper()
	ctx, cancel := p.limit()
	defer cancel()
	res, err := chromedp.Run(ctx, chromedp.NavigateResponse(url))
	if err != nil {
		t.Fatalf("loading %s: %v", url, err)
	}
	return int(res.Status)
}

// Back goes to the page before, as the Back button does.
func (p *Page) Back(t testing.TB) {
	t.Helper()
	// Not chromedp.NavigateBack, which waits for an event that a page kept in memory does not send.
	history := func() page.GetNavigationHistoryResult {
		ctx, cancel := p.limit()
		defer cancel()
		for { // there is no history for a moment while one document takes the place of another
			h, err := chromedp.Run(ctx, chromedp.NavigationEntries())
			if err == nil {
				return h
			}
			if ctx.Err() != nil {
				t.Fatalf("going back: %v", err)
			}
			time.Sleep(pause)
		}
	}
	h := history()
	if h.CurrentIndex == 0 {
		t.Fatal("going back: this is the first page")
	}
	ctx, cancel := p.limit()
	defer cancel()
	before := h.Entries[h.CurrentIndex-1].ID
	if _, err := chromedp.Call(ctx, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: before}); err != nil {
		t.Fatalf("going back: %v", err)
	}
	for deadline := time.Now().Add(actionTimeout); history().CurrentIndex != h.CurrentIndex-1; time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("going back: nothing after %v", actionTimeout)
		}
	}
	p.WaitUntil(t, "document.readyState === 'complete'")
}

// StopLoading ends a navigation that is under way, as Esc and the Stop button
// do.
func (p *Page) StopLoading(t testing.TB) {
	t.Helper()
	p.do(t, "stopping", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, page.StopLoading, cdp.Empty{})
		return err
	}))
}

// URL returns the page's address.
func (p *Page) URL(t testing.TB) string {
	t.Helper()
	return Eval[string](t, p, "location.href")
}

// Click clicks on an element with the mouse, once it is visible, enabled and not under another one. It does not wait for
// what the click brings about.
func (p *Page) Click(t testing.TB, selector string) {
	t.Helper()
	x, y := p.target(t, selector)
	p.do(t, "clicking on "+selector, chromedp.MouseClickXY(x, y))
}

// Follow clicks on an element that loads another document, a link or a plain form's button, waits for that document and
// returns its status.
func (p *Page) Follow(t testing.TB, selector string) int {
	t.Helper()
	x, y := p.target(t, selector)
	ctx, cancel := p.limit()
	defer cancel()
	res, err := chromedp.RunResponse(ctx, chromedp.MouseClickXY(x, y))
	if err != nil {
		t.Fatalf("following %s: %v", selector, err)
	}
	return int(res.Status)
}

// target waits until an element can be clicked on and returns where. Not chromedp.Click, which knows nothing of the nodes
// of a page that came back from memory.
func (p *Page) target(t testing.TB, selector string) (x, y float64) {
	t.Helper()
	type point struct{ X, Y float64 }
	at := poll(t, p, `(e => {
		if (!e?.checkVisibility({visibilityProperty: true}) || e.disabled) return null
		e.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'})
		const r = e.getClientRects()[0]
		if (!r) return null
		const X = r.x + r.width / 2, Y = r.y + r.height / 2
		return e.contains(document.elementFromPoint(X, Y)) ? {X, Y} : null
	})(document.querySelector(`+quote(selector)+"))", func(at *point) bool { return at != nil })
	return at.X, at.Y
}

// Fill sets the value of a visible, editable field, also of a select element.
func (p *Page) Fill(t testing.TB, selector, value string) {
	t.Helper()
	ok := read[bool](t, p, selector, `e.checkVisibility() && !e.disabled && !e.readOnly && (
		e.value = `+quote(value)+`,
		e.dispatchEvent(new Event('input', {bubbles: true})),
		e.dispatchEvent(new Event('change', {bubbles: true})),
		true)`)
	if !ok {
		t.Fatalf("%s is not to be filled in: hidden, disabled or read-only", selector)
	}
	if got := p.Value(t, selector); got != value {
		t.Fatalf("%s has the value %q, want %q", selector, got, value)
	}
}

// Check clicks on a checkbox or radio button unless it is in the wanted state.
func (p *Page) Check(t testing.TB, selector string, on bool) {
	t.Helper()
	if read[bool](t, p, selector, "e.checked") == on {
		return
	}
	p.Click(t, selector)
	if read[bool](t, p, selector, "e.checked") != on {
		t.Fatalf("%s: a click did not change it to %v", selector, on)
	}
}

// Press sends key strokes to whatever has the focus: text, or Key constants.
func (p *Page) Press(t testing.TB, keys string) {
	t.Helper()
	p.do(t, "pressing keys", chromedp.KeyEvent(keys))
}

// Text returns the text of an element as displayed.
func (p *Page) Text(t testing.TB, selector string) string {
	t.Helper()
	return read[string](t, p, selector, "e.innerText")
}

// Value returns the value of a field.
func (p *Page) Value(t testing.TB, selector string) string {
	t.Helper()
	return read[string](t, p, selector, "String(e.value)")
}

// Attr returns an attribute of an element, empty where it has none of that name.
func (p *Page) Attr(t testing.TB, selector, name string) string {
	t.Helper()
	return read[string](t, p, selector, "e.getAttribute("+quote(name)+") ?? ''")
}

// Count returns how many elements match now.
func (p *Page) Count(t testing.TB, selector string) int {
	t.Helper()
	return Eval[int](t, p, "document.querySelectorAll("+quote(selector)+").length")
}

// WaitFor waits until an element is visible.
func (p *Page) WaitFor(t testing.TB, selector string) {
	t.Helper()
	p.WaitUntil(t, "!!document.querySelector("+quote(selector)+")?.checkVisibility({visibilityProperty: true})")
}

// WaitGone waits until no element that matches is visible.
func (p *Page) WaitGone(t testing.TB, selector string) {
	t.Helper()
	p.WaitUntil(t, "![...document.querySelectorAll("+quote(selector)+")].some(e => e.checkVisibility({visibilityProperty: true}))")
}

// WaitUntil waits until a JavaScript expression is true, through any number of documents.
func (p *Page) WaitUntil(t testing.TB, expression string) {
	t.Helper()
	poll(t, p, expression, func(ok bool) bool { return ok })
}

// Eval returns the value of a JavaScript expression, or what its promise resolves to.
func Eval[T any](t testing.TB, p *Page, expression string) T {
	t.Helper()
	v, err := evaluate[T](p, expression)
	if err != nil {
		t.Fatalf("evaluating %s: %v", short(expression), err)
	}
	return v
}

// Screenshot writes the whole page to NAME.png in the folder that $CICOSTS_SCREENSHOTS names; without it, it does nothing.
func (p *Page) Screenshot(t testing.TB, name string) {
	t.Helper()
	folder := os.Getenv("CICOSTS_SCREENSHOTS")
	if folder == "" {
		return
	}
	ctx, cancel := p.limit()
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		name = strings.Map(func(r rune) rune {
			if r == '/' || r == ' ' {
				return '-'
			}
			return r
		}, name)
		err = os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644)
	}
	if err != nil {
		t.Errorf("taking the screenshot %s: %v", name, err)
	}
}

// read waits for an element and returns what expression makes of it, which is called e there.
func read[T any](t testing.TB, p *Page, selector, expression string) T {
	t.Helper()
	type found struct {
		V T `json:"v"`
	}
	f := poll(t, p, "(e => e ? {v: "+expression+"} : null)(document.querySelector("+quote(selector)+"))",
		func(f *found) bool { return f != nil })
	return f.V
}

// poll evaluates until done. An error may mean that the document is just being replaced, so it is tried again as well.
func poll[T any](t testing.TB, p *Page, expression string, done func(T) bool) T {
	t.Helper()
	for deadline := time.Now().Add(actionTimeout); ; time.Sleep(pause) {
		v, err := evaluate[T](p, expression)
		if err == nil && done(v) {
			return v
		}
		if time.Now().After(deadline) {
			t.Fatalf("not so after %v: %s (error: %v)", actionTimeout, short(expression), err)
		}
	}
}

func evaluate[T any](p *Page, expression string) (T, error) {
	ctx, cancel := p.limit()
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func (p *Page) do(t testing.TB, doing string, a chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := p.limit()
	defer cancel()
	if err := chromedp.Do(ctx, a); err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}

func (p *Page) limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, actionTimeout)
}

// quote writes s as a JavaScript string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("quoting a string: %v", err)) // cannot happen
	}
	return string(b)
}

func short(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
