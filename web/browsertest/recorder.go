package browsertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
)

// recorder keeps what the browser says about a page.
type recorder struct {
	mu       sync.Mutex // guards what follows
	problems []string
	hosts    map[string]bool
}

// Problems returns, in order, what the browser complained about since the page was opened: console errors and warnings,
// violations of the content security policy, uncaught exceptions, and styles, scripts, images or fonts that did not
// load. The status of a document, or of a request by script, is the test's to judge.
func (r *recorder) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.problems)
}

// Quiet fails the test where the browser complained about anything.
func (r *recorder) Quiet(t testing.TB) {
	t.Helper()
	for _, problem := range r.Problems() {
		t.Errorf("the browser complains: %s", problem)
	}
}

// Hosts returns every host:port that was asked for anything, sorted.
func (r *recorder) Hosts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.hosts))
}

// record is called in order, for every event, and must not block.
func (r *recorder) record(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		r.problem("exception", text, e.ExceptionDetails.URL)
	case *runtime.EventConsoleAPICalled:
		switch e.Type {
		case runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeAssert, runtime.ConsoleAPICalledTypeWarning:
			r.problem("console "+string(e.Type), consoleText(e.Args), "")
		}
	case *log.EventEntryAdded:
		// The network's entries do not tell documents from what they need; responses do.
		if e.Entry.Source != log.EntrySourceNetwork && (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) {
			r.problem(string(e.Entry.Source), e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		r.host(e.Request.URL)
	case *network.EventWebSocketCreated:
		r.host(e.URL)
	case *network.EventResponseReceived:
		if needed(e.Type) && e.Response.Status >= 400 {
			r.problem("network", fmt.Sprintf("%s answered %d", e.Type, e.Response.Status), e.Response.URL)
		}
	case *network.EventLoadingFailed:
		// What the policy blocked has been said, and leaving a page cancels.
		if needed(e.Type) && !e.Canceled && e.BlockedReason == "" {
			r.problem("network", fmt.Sprintf("%s: %s", e.Type, e.ErrorText), "")
		}
	}
}

// needed reports whether a page lacks something when a request of this type fails.
func needed(t network.ResourceType) bool {
	switch t {
	case network.ResourceTypeStylesheet, network.ResourceTypeScript, network.ResourceTypeImage, network.ResourceTypeFont,
		network.ResourceTypeMedia, network.ResourceTypeManifest:
		return true
	}
	return false
}

func consoleText(args []*runtime.RemoteObject) string {
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a.Description; words[i] == "" && json.Unmarshal(a.Value, &words[i]) != nil {
			words[i] = string(a.Value)
		}
	}
	return strings.Join(words, " ")
}

func (r *recorder) problem(kind, text, url string) {
	if url != "" {
		text += " (" + url + ")"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, kind+": "+text)
}

func (r *recorder) host(address string) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return // data:, about: and blob: leave the browser alone
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hosts == nil {
		r.hosts = map[string]bool{}
	}
	r.hosts[u.Host] = true
}
