package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	cleanPage = `<!doctype html><html lang="en"><head><title>Clean</title><link rel="stylesheet" href="/style.css">
		<script src="/script.js" defer></script></head><body><main><h1>Hello</h1><p id="js">without script</p>
		<form method="post" action="/form"><label>Name <input name="name" id="name"></label>
		<label><input type="checkbox" name="agree" id="agree"> Agree</label>
		<label>Mode <select name="mode" id="mode"><option>live</option><option>test</option></select></label>
		<button>Send</button></form><input id="readonly" aria-label="fixed" readonly value="fixed"></main></body></html>`
	faultyPage = `<!doctype html><html lang="en"><head><title>Faulty</title></head><body><main><h1>Hello</h1>
		<input name="unlabelled"></main></body></html>`
	noisyPage = `<!doctype html><html lang="en"><head><title>Noisy</title><script src="/noise.js" defer></script>
		<link rel="stylesheet" href="/missing.css"><script src="/missing.js" defer></script></head><body><main><h1 style="color:red">Hello</h1>
		<script>document.title = "inline"</script><img src="http://other.invalid/x.png" alt=""></main></body></html>`
)

func site(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	page := func(path, html string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy",
				"default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'")
			fmt.Fprint(w, html)
		})
	}
	file := func(path, kind, body string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			fmt.Fprint(w, body)
		})
	}
	page("/clean", cleanPage)
	page("/faulty", faultyPage)
	page("/noisy", noisyPage)
	page("/sent", strings.Replace(cleanPage, "Hello", "Sent", 1))
	file("/style.css", "text/css", `#name { color: black } @media (prefers-color-scheme: dark) { body { background: #000; color: #fff } }`)
	file("/script.js", "text/javascript", `document.querySelector("#js").textContent = "with script"`)
	file("/noise.js", "text/javascript", `console.error("deliberate", 42); setTimeout(() => { throw new Error("uncaught") })`)
	mux.HandleFunc("GET /missing.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.WriteHeader(http.StatusNotFound)
	})
	mux.HandleFunc("POST /form", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("name") == "" {
			http.Error(w, "name it", http.StatusUnprocessableEntity) // with a body, else Chromium shows a page of its own
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "sent", Value: "1"})
		http.Redirect(w, r, "/sent?"+r.PostForm.Encode(), http.StatusSeeOther)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func TestBrowser(t *testing.T) {
	b := Start(t)
	srv := site(t)
	for name, view := range map[string]View{"script": {}, "no script": {NoScript: true}} {
		t.Run("form with "+name, func(t *testing.T) { testForm(t, b.Open(t, view), srv.URL, view) })
		t.Run("axe with "+name, func(t *testing.T) { testAxe(t, b.Open(t, view), srv.URL) })
	}
	t.Run("views", func(t *testing.T) { testViews(t, b, srv.URL) })
	t.Run("problems", func(t *testing.T) { testProblems(t, b, srv.URL) })
	t.Run("screenshot", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "shots")
		t.Setenv("CICOSTS_SCREENSHOTS", folder)
		p := b.Open(t, View{})
		p.Go(t, srv.URL+"/clean")
		p.Screenshot(t, "a/clean page")
		if png, err := os.ReadFile(filepath.Join(folder, "a-clean-page.png")); err != nil || !strings.HasPrefix(string(png), "\x89PNG") {
			t.Errorf("no PNG: %v", err)
		}
	})
}

func testForm(t *testing.T, p *Page, base string, view View) {
	if status := p.Go(t, base+"/clean"); status != 200 {
		t.Errorf("status %d", status)
	}
	want := "with script"
	if view.NoScript {
		want = "without script"
	}
	if got := p.Text(t, "#js"); got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	if status := p.Follow(t, "button"); status != 422 {
		t.Errorf("an empty form was answered %d", status)
	}
	p.Back(t)
	p.Fill(t, "#name", `Ünï "quoted" </script>`)
	p.Fill(t, "#mode", "test")
	p.Check(t, "#agree", true)
	p.Check(t, "#agree", true)
	if status := p.Follow(t, "button"); status != 200 {
		t.Errorf("the form was answered %d", status)
	}
	if got, want := p.URL(t), base+"/sent?agree=on&mode=test&name=%C3%9Cn%C3%AF+%22quoted%22+%3C%2Fscript%3E"; got != want {
		t.Errorf("got to %s, want %s", got, want)
	}
	if p.Text(t, "h1") != "Sent" || p.Count(t, "label") != 3 || p.Attr(t, "#name", "name") != "name" || p.Value(t, "#readonly") != "fixed" {
		t.Error("the page reads wrong")
	}
	p.Click(t, "#name")
	p.Press(t, "typed"+KeyEnter)
	p.WaitUntil(t, "location.search.includes('name=typed')")
	p.WaitGone(t, "#nothing")
	p.Quiet(t)
	if diff := cmp.Diff([]string{strings.TrimPrefix(base, "http://")}, p.Hosts()); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

func testAxe(t *testing.T, p *Page, base string) {
	p.Go(t, base+"/clean")
	p.Axe(t)
	p.Axe(t)
	p.Quiet(t)
	p.Go(t, base+"/faulty")
	found := p.axe(t, nil)
	if len(found) != 1 || found[0].ID != "label" || !strings.Contains(found[0].String(), `<input name="unlabelled">`) {
		t.Errorf("found %v, want the unlabelled input", found)
	}
	p.Axe(t, "label")
}

func testViews(t *testing.T, b *Browser, base string) {
	p := b.Open(t, View{Width: 360, Height: 640, Dark: true})
	p.Go(t, base+"/clean")
	type look struct {
		Width int
		Dark  bool
		Body  string
	}
	see := func() look {
		return look{
			Eval[int](t, p, "innerWidth"), Eval[bool](t, p, "matchMedia('(prefers-color-scheme: dark)').matches"),
			Eval[string](t, p, "getComputedStyle(document.body).backgroundColor"),
		}
	}
	if got, want := see(), (look{360, true, "rgb(0, 0, 0)"}); got != want {
		t.Errorf("phone, dark: %v, want %v", got, want)
	}
	p.Look(t, View{})
	if got, want := see(), (look{1280, false, "rgba(0, 0, 0, 0)"}); got != want {
		t.Errorf("desktop, light: %v, want %v", got, want)
	}
	p.Fill(t, "#name", "x")
	p.Follow(t, "button")
	if got := Eval[string](t, p, "document.cookie"); got != "sent=1" {
		t.Errorf("cookie %q", got)
	}
	other := b.Open(t, View{})
	other.Go(t, base+"/clean")
	other.WaitFor(t, "#name")
	if got := Eval[string](t, other, "document.cookie"); got != "" {
		t.Errorf("another page has the cookie %q", got)
	}
}

func testProblems(t *testing.T, b *Browser, base string) {
	p := b.Open(t, View{})
	p.Go(t, base+"/noisy")
	for _, want := range []string{
		"console error: deliberate 42", "Error: uncaught", "inline style violates", "inline script violates",
		"other.invalid", "missing.css", "Script answered 404",
	} {
		has := func(problem string) bool { return strings.Contains(problem, want) }
		for deadline := time.Now().Add(time.Minute); !slices.ContainsFunc(p.Problems(), has); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no problem with %q among %q", want, p.Problems())
			}
		}
	}
	if got := Eval[string](t, p, "document.title"); got != "Noisy" {
		t.Errorf("the title is %q", got)
	}
}
