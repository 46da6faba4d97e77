package views

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
)

var (
	now     = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	visitor = Page{Title: "API keys", Visitor: &Visitor{Account: "Acme", Email: "ops@acme.example", SeesKeys: true}}
	used    = KeyRow{
		ID: "key_1", Name: "Grafana", Hint: "cic_live_…ERRE", Mode: "live", Status: "active", Permissions: []string{"costs:read"},
		Created: Date(now.AddDate(0, 0, -21)), Creator: "ops@acme.example", LastUsed: Ago(now.Add(-2*time.Minute), now),
		LastRoute: "GET /v1/costs", Days: []Day{{At: now.AddDate(0, 0, -2)}, {now.AddDate(0, 0, -1), 2, 1}, {now, 1, 0}}, CanRevoke: true,
	}
	fresh = KeyRow{
		ID: "key_2", Name: strings.Repeat("long", 25), Mode: "test", Status: "active", CanRevoke: true,
		Permissions: []string{"1", "2", "3", "4", "5"}, LastUsed: Ago(time.Time{}, now), Notes: []Note{{"due", "never used"}},
	}
	revoked  = KeyRow{ID: "key_3", Name: "لوحة 🚀", Mode: "live", Status: "revoked", Notes: []Note{{"off", "revoked"}}, Days: []Day{{At: now}}, Changed: true}
	refusing = with(used, func(k *KeyRow) {
		k.Status, k.Ended, k.Refused = "revoked", Second(now.Add(5*time.Second)), Refused{"41 times", Ago(now.Add(-3*time.Minute), now), "203.0.113.9"}
	})
	unknown = with(refusing, func(k *KeyRow) { k.Refused.Last, k.Refused.From = Moment{}, "" })
	once    = Request{At: Second(now), Route: "GET /v1/costs", Address: "2001:db8::1", Client: "curl", Note: "a note"}
	ended   = Proof{
		Word: "Revoked", At: Second(now.Add(5 * time.Second)), Promise: "No replica.", Accepted: once, Refused: "So many.", Last: once, Earlier: "Earlier.",
		Sources: []Source{{Ago(now, now), Ago(now, now), "2001:db8::1", "curl", "GET /v1/costs", "39", "a note"}, {Last: Ago(now, now), Times: "1"}}, Others: "Others.",
	}
	form = KeyForm{
		Page: visitor, FormToken: "form_1", Mode: "live", Today: "2026-11-23", Presets: []Preset{{"full", "Full integration", "a b"}},
		Permissions: []Permission{{Name: "costs:read"}}, Expires: []Option{{"never", "Never", true}, {"custom", "On a date", false}},
	}
	formErrors = Errors{
		"": "Whole form.", "name": "Name it.", "mode": "Which?", "permissions": "Choose.", "expires": "When?", "expires_on": "What day?",
		"account": "Account.", "email": "E-mail.", "password": "Password.",
	}
)

func with(k KeyRow, change func(*KeyRow)) KeyRow {
	change(&k)
	return k
}

// states are the pages and parts in every state, with what each must say and, after a !, what it must not.
func states() map[string]struct {
	view templ.Component
	says []string
} {
	type state = struct {
		view templ.Component
		says []string
	}
	list := func(change func(*KeyListPage)) templ.Component {
		p := KeyListPage{Page: visitor, CanManage: true, Stats: []Stat{{"Active keys", "3", "2 live"}}}
		change(&p)
		return KeyList(p)
	}
	withForm := func(change func(*KeyForm)) templ.Component {
		p := form
		change(&p)
		return NewKey(p)
	}
	expired := with(used, func(k *KeyRow) { k.Status = "expired" })
	doubtful, givenUp := used, used
	doubtful.InDoubt, givenUp.GivenUp = true, true
	stopping := doubtful
	stopping.Stopping = true
	failed := func(outcome RevokeOutcome, name string) templ.Component {
		return RevokeFailed(RevokeFailedPage{Page: visitor, Key: KeyRow{ID: "key_1", Name: name}, Outcome: outcome, RequestID: "req_1"})
	}
	key := func(row KeyRow, change func(*KeyPage)) templ.Component {
		p := KeyPage{
			Page: visitor, Key: row, CanRevoke: row.CanRevoke, ReplaceBy: "/settings/api/new?like=" + row.ID,
			Facts: []Fact{{Label: "Status", Text: row.Status}, {Label: "Created", Moment: &row.Created, Text: "by ops"}},
		}
		change(&p)
		return Key(p)
	}
	reveal := Reveal{Page: visitor, Key: used, Text: "cic_live_text", Curl: "curl", Expires: Exact(now), NameTwice: true}
	dialog, unique := reveal, reveal
	dialog.Dialog, unique.NameTwice, unique.Expires = true, false, Moment{}
	return map[string]state{
		"list, nothing yet":    {list(func(p *KeyListPage) { p.NothingYet = true }), []string{"No API keys yet", "Generate API Key", "!<table", "!type=\"search\""}},
		"list, nothing to do":  {list(func(p *KeyListPage) { p.NothingYet, p.CanManage = true, false }), []string{"An owner or admin", "!Generate API Key"}},
		"list, nothing found":  {list(func(p *KeyListPage) { p.AnyStatusURL, p.ClearURL = "/x?status=all", "/c" }), []string{"No keys match these filters.", `href="/x?status=all"`, `href="/c"`}},
		"list, nothing at all": {list(func(p *KeyListPage) { p.ClearURL = "/c" }), []string{"No keys match these filters.", "!any status", `href="/c"`}},
		"list, past its end":   {list(func(p *KeyListPage) { p.NewestURL = "/n" }), []string{"No older keys.", `href="/n"`, "!match"}},
		"list, none active":    {list(func(p *KeyListPage) { p.NoActive = &NoActive{true, "1 revoked.", "/r", ""} }), []string{"No active keys. 1 revoked.", `href="/r"`, "!Show expired", "!match"}},
		"list, none, a member": {list(func(p *KeyListPage) { p.CanManage, p.NoActive = false, &NoActive{ExpiredURL: "/e"} }), []string{"No active keys.<", `href="/e"`, "!Show revoked", "!Generate"}},
		"list":                 {list(func(p *KeyListPage) { p.Keys = []KeyRow{used, fresh, revoked} }), []string{"3 keys", "all permissions", `data-key-id="key_3" data-status="revoked"`, `aria-label="Revoke Grafana"`, "4 requests in the last 3 days, 1 refused", "!rel=\"next\""}},
		"list, a failover": {list(func(p *KeyListPage) {
			p.Failovers = []Failover{{ID: "fail_1", From: Exact(now), To: Exact(now.Add(time.Minute))}}
		}), []string{"Revocations may have been lost", "done between <time", "</time> and <time", "</time>. Keys", `action="/settings/api/failovers/fail_1/looked-at"`}},
		"list, a middle page":   {list(func(p *KeyListPage) { p.Keys, p.MoreURL, p.NewestURL = []KeyRow{used}, "/m", "/n" }), []string{"1 key on this page", `href="/m#found" rel="next"`, `href="/n#found"`}},
		"generate":              {withForm(func(*KeyForm) {}), []string{"Advanced Options", "!aria-describedby=\"\"", "!aria-invalid", "!hx-post", "<main"}},
		"generate, dialog":      {withForm(func(p *KeyForm) { p.Dialog = true }), []string{`hx-post="/settings/api/keys"`, "!<main"}},
		"generate, errors":      {withForm(func(p *KeyForm) { p.Errors, p.Advanced, p.Scoped = formErrors, true, true }), []string{"Whole form.", "Name it.", `aria-describedby="name-error name-help"`, "<details open>"}},
		"generate, replacement": {withForm(func(p *KeyForm) { p.Replaces = "Old" }), []string{"A replacement for “<bdi>Old</bdi>”"}},
		"reveal":                {RevealKey(unique), []string{`id="api-key"`, `value="cic_live_text"`, `href="/settings/api#key_1"`, "!tell them apart", "!expires"}},
		"reveal, dialog":        {RevealKey(dialog), []string{"tell them apart", "expires <time", "!<main"}},
		"revoke":                {RevokeKey(RevokePage{Page: visitor, Key: used, InUse: true, Today: "3 requests"}), []string{"Revoke “<bdi>Grafana</bdi>”?", "This key is in use.", "fail at once", "3 requests", "!hx-post"}},
		"revoke, dialog":        {RevokeKey(RevokePage{Dialog: true, Key: fresh}), []string{"!This key is in use.", `hx-target="[data-key-id=`}},
		"revoke, expired":       {RevokeKey(RevokePage{Page: visitor, Key: KeyRow{Status: "expired"}, InUse: true}), []string{"fail already", "!at once", "!in use"}},
		"revoked":               {Revoked(revoked, []Stat{{"Active keys", "2", ""}}, nil), []string{`id="stats"`, `hx-swap-oob="true"`, "is revoked", `class="changed"`, "!No active keys"}},
		"revoked, the last":     {Revoked(revoked, []Stat{{"Active keys", "0", ""}}, &NoActive{true, "1 revoked.", "/r", ""}), []string{`id="below" class="table-wrap empty" hx-swap-oob="true"`, "Requests with it fail.", "No active keys. 1 revoked.</div>"}},
		"in doubt":              {NotConfirmed(NotConfirmedPage{Page: visitor, Key: KeyRow{ID: "key_1"}}), []string{"<h1>Revocation not confirmed yet</h1>", `hx-get="/settings/api/keys/key_1"`, `hx-trigger="every 2s"`, `<a href="/settings/api/keys/key_1">`}},
		"in doubt, row":         {NotConfirmedRow(doubtful), []string{`data-status="active"`, "revocation not confirmed yet", `hx-target="closest tr"`, "The key may still work.", "!is revoked"}},
		"in doubt, key":         {key(doubtful, func(*KeyPage) {}), []string{"revocation not confirmed yet", "CICosts keeps trying", "!cannot be shown again"}},
		"in doubt, stopping":    {key(stopping, func(*KeyPage) {}), []string{"This server is stopping", "!keeps trying"}},
		"not revoked":           {failed(RevokeNotDone, "A&B"), []string{"<h1>Not revoked</h1>", "“<bdi>A&amp;B</bdi>” is NOT revoked.", "does not answer. Nothing was changed, so the key still works", `name="name" value="A&amp;B"`, ">Try again<", "!keeps trying"}},
		"not revoked, no name":  {failed(RevokeNotDone, ""), []string{"This key is NOT revoked."}},
		"not revoked, a defect": {failed(RevokeBroken, "A"), []string{"“<bdi>A</bdi>” is NOT revoked.", "on our side. Nothing was changed"}},
		"revocation unknown":    {failed(RevokeUnknown, "A"), []string{"It is unknown whether “<bdi>A</bdi>” is revoked.", "may still work", `<a href="/settings/api/keys/key_1">`, "!keeps trying"}},
		"in doubt, no row":      {failed(RevokeInDoubt, "A"), []string{"The revocation of “<bdi>A</bdi>” is not confirmed yet.", "CICosts keeps trying"}},
		"not revoked, dialog": {
			RevokeFailed(RevokeFailedPage{Dialog: true, Key: KeyRow{ID: "key_1", Name: "A"}}),
			[]string{`<p class="dangerbox complaint" role="alert" tabindex="-1"><strong>“<bdi>A</bdi>” is NOT`, `hx-swap-oob="true">Try again<`, "!<main"},
		},
		"given up":              {Revoked(givenUp, nil, nil), []string{`data-status="active"`, "not revoked: revoke it again", "is not revoked, as far as is known here.", "!Requests with it fail", "!hx-trigger"}},
		"given up, key":         {key(givenUp, func(*KeyPage) {}), []string{"is not tried any more", "!CICosts keeps trying"}},
		"key":                   {key(used, func(p *KeyPage) { p.Routes = []RouteUse{{"GET /v1/costs", "accepted", "4"}} }), []string{"cannot be shown again", "!infobox", "<rect", "<title>Nov 22, 2026: 2 accepted, 1 refused</title>", `aria-label="4 requests in the last 3 days, 1 refused. Most on Nov 22, 2026: 2 accepted, 1 refused."`, `<th scope="row">Nov 21, 2026</th>`, `Accepted <b class="num">3</b>`, `Refused <b class="num">1</b>`, "</time> by ops"}},
		"key, never used":       {key(fresh, func(p *KeyPage) { p.History = []HistoryLine{{Exact(now), "Created"}} }), []string{"infobox", "?like=key_2", "Nov 23, 2026, 12:00 UTC", "!<rect"}},
		"key, revoked":          {key(revoked, func(*KeyPage) {}), []string{"!cannot be shown again", "!Revoke<", "This key is revoked.", "?like=key_3"}},
		"key, expired":          {key(expired, func(*KeyPage) {}), []string{"!cannot be shown again", "This key has expired.", "?like=key_1"}},
		"key, not to replace":   {key(revoked, func(p *KeyPage) { p.ReplaceBy = "" }), []string{"!eplacement", "!This key is revoked"}},
		"key, proof":            {key(revoked, func(p *KeyPage) { p.Proof = &ended }), []string{`<time datetime="2026-11-23T12:00:05Z"`, "12:00:05 UTC</time>", "<bdi>curl</bdi>", "(a note)", "So many.", "Earlier.", "The last one", `data-label="Times" class="count num">39<`, "Others.", "first"}},
		"key, proof of nothing": {key(revoked, func(p *KeyPage) { p.Proof = &Proof{Word: "Revoked", At: Second(now), Refused: "None."} }), []string{"None saved so far", "None.", "!The last one", "!Refused requests", "!<br/> "}},
		"list, refused":         {list(func(p *KeyListPage) { p.Keys = []KeyRow{refusing, revoked} }), []string{"last refused", ", 41 times, from 203.0.113.9", "3 minutes ago</time>"}},
		"list, refused, no use": {list(func(p *KeyListPage) { p.Keys = []KeyRow{unknown} }), []string{"refused 41 times", "!last refused"}},
		"revoked, said":         {Revoked(refusing, nil, nil), []string{"is revoked. Requests with it fail. It took effect Nov 23, 2026, 12:00:05 UTC. Last accepted: 2 minutes ago, GET /v1/costs.", "41 times"}},
		"sign in":               {Login(LoginPage{Page: Page{Title: "Sign in"}}), []string{"!session has ended", `autocomplete="current-password"`}},
		"sign in, lost":         {Login(LoginPage{Lost: true, Next: "/settings/api?q=a&b", Email: "a@b.example"}), []string{"session has ended", `value="/settings/api?q=a&amp;b"`, `value="a@b.example"`}},
		"sign in, refused":      {Login(LoginPage{Errors: formErrors}), []string{`role="alert">Whole form.`, `aria-describedby="email-error"`, "Password."}},
		"set up":                {Setup(SetupPage{Token: "t"}), []string{`name="token" value="t"`, "!aria-invalid"}},
		"set up, errors":        {Setup(SetupPage{Errors: formErrors}), []string{"Account.", "E-mail.", "Password.", `aria-describedby="password-error"`, "!12 to 128 characters"}},
		"error":                 {Error(ErrorPage{Heading: "Not found", Message: "Nothing here.", RequestID: "req_1"}), []string{"Not found", "Nothing here.", "req_1", "Go to the API keys"}},
		"error, viewer":         {Error(ErrorPage{Page: Page{Visitor: &Visitor{}}, Heading: "No"}), []string{"!API keys"}},
		"error, fragment":       {ErrorFragment("No."), []string{`<p class="dangerbox">No.</p>`}},
	}
}

func draw(t *testing.T, view templ.Component) string {
	t.Helper()
	var b strings.Builder
	if err := view.Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestStates(t *testing.T) {
	for name, s := range states() {
		t.Run(name, func(t *testing.T) {
			html := draw(t, s.view)
			for _, want := range s.says {
				unwanted, no := strings.CutPrefix(want, "!")
				if strings.Contains(html, unwanted) == no {
					t.Errorf("want %s in\n%s", want, html)
				}
			}
			checkMarkup(t, html)
		})
	}
}

// checkMarkup finds tags that are not closed, ids that stand twice, references to ids that are not there, and forms that
// the browser would block.
func checkMarkup(t *testing.T, html string) {
	t.Helper()
	ids, wanted := map[string]int{}, []string{}
	d := xml.NewDecoder(strings.NewReader(html))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, html)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		blocks := start.Name.Local == "form"
		for _, a := range start.Attr {
			switch a.Name.Local {
			case "novalidate":
				blocks = false
			case "id":
				ids[a.Value]++
			case "for", "aria-describedby":
				wanted = append(wanted, strings.Fields(a.Value)...)
			}
		}
		if blocks {
			t.Errorf("a form without novalidate: %v", start.Attr)
		}
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("id %s stands %d times", id, n)
		}
	}
	for _, id := range wanted {
		if ids[id] == 0 {
			t.Errorf("nothing has the id %s", id)
		}
	}
}

// fill sets every text in v.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(Errors{"": text, "name": text, "email": text, "expires": text}))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(now))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	}
}

func filled[T any](view func(T) templ.Component, text string, plain bool) templ.Component {
	var p T
	v := reflect.ValueOf(&p).Elem()
	fill(v, text)
	if dialog := v.FieldByName("Dialog"); dialog.IsValid() && plain {
		dialog.SetBool(false)
	}
	if empty := v.FieldByName("NothingYet"); empty.IsValid() {
		empty.SetBool(false)
		v.FieldByName("NoActive").SetZero()
	}
	return view(p)
}

// Whatever stands in whatever field, it is shown and does nothing.
func TestHostileText(t *testing.T) {
	pages := func(text string) (list []templ.Component) {
		for _, plain := range []bool{true, false} {
			list = append(list, filled(KeyList, text, plain), filled(NewKey, text, plain), filled(RevealKey, text, plain),
				filled(RevokeKey, text, plain), filled(Key, text, plain), filled(Login, text, plain), filled(Setup, text, plain), filled(Error, text, plain),
				filled(func(k KeyRow) templ.Component {
					return Revoked(k, []Stat{{text, text, text}}, &NoActive{true, text, text, text})
				}, text, plain), NotConfirmedRow(KeyRow{Name: text}), ErrorFragment(text))
		}
		return list
	}
	for _, view := range pages(`"'></script></title><img src=x onerror=alert(1)>`) {
		html := draw(t, view)
		if i := strings.Index(html, "<img"); i >= 0 {
			t.Errorf("a tag made of text: %s", html[max(0, i-200):i+50])
		}
		if !strings.Contains(html, "&lt;img src=x") {
			t.Errorf("the text is not shown:\n%s", html)
		}
	}
	active := regexp.MustCompile(`(?i)(href|action|formaction|src|hx-[a-z]+)="?\s*javascript:`)
	for _, view := range pages("javascript:alert(1)") {
		if found := active.FindString(draw(t, view)); found != "" {
			t.Errorf("an address that runs: %s", found)
		}
	}
}

// What would switch the escaping off, or break the content security policy.
func TestSources(t *testing.T) {
	forbidden := regexp.MustCompile(`templ\.Raw|SafeURL|SafeCSS|SafeScript|@?templ\.JS|<style|\sstyle=|<script[^>]*>[^<]|\son[a-z]+=|hx-on|hx-vals|hx-headers|hx-disable[^d]|js:|javascript:|https?://`)
	files, err := filepath.Glob("*.templ")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range append(files, "views.go", "chart.go") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := forbidden.FindString(string(text)); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
}

func TestWords(t *testing.T) {
	ago := func(d time.Duration) string { return Ago(now.Add(-d), now).Text }
	const day = 24 * time.Hour
	for _, c := range []struct{ got, want string }{
		{ago(0), "just now"},
		{ago(-time.Hour), "just now"}, // a clock that is ahead
		{ago(time.Minute), "1 minute ago"},
		{ago(119 * time.Minute), "1 hour ago"},
		{ago(day), "1 day ago"},
		{ago(29 * day), "29 days ago"},
		{ago(30 * day), "Oct 24, 2026"},
		{Ago(time.Time{}, now).Text, "Never"},
		{Date(time.Time{}).Text, "Never"},
		{Number(0), "0"},
		{Number(999), "999"},
		{Number(-1234567), "-1,234,567"},
		{count(1, "key"), "1 key"},
		{count(1000, "key"), "1,000 keys"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
