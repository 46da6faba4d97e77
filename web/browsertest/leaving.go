package browsertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// leaving answers the question that a page asks before it is left. It leaves,
// unless the test stays.
type leaving struct {
	mu    sync.Mutex // guards what follows
	stays bool
	asked int
}

// Stay answers the question before leaving, from now on: with true the page
// stays, with false it is left, as it is without a call.
func (l *leaving) Stay(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stays = on
}

// Asked returns how often the page, or one before it in the tab, asked before it
// was left.
func (l *leaving) Asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// WaitAsked waits until Asked returns n.
func (l *leaving) WaitAsked(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(actionTimeout); l.Asked() != n; time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("asked %d times before leaving, want %d", l.Asked(), n)
		}
	}
}

// answer returns a listener for events, which does not block.
func (l *leaving) answer(ctx context.Context) func(any) {
	return func(event any) {
		opening, ok := event.(*page.EventJavascriptDialogOpening)
		if !ok || opening.Type != page.DialogTypeBeforeunload {
			return
		}
		l.mu.Lock()
		leave := !l.stays
		l.mu.Unlock()
		go func() {
			// An error means that the tab is gone, which its test will notice.
			_, _ = chromedp.Call(ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: leave})
			l.mu.Lock()
			defer l.mu.Unlock()
			l.asked++
		}()
	}
}
