package web

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// browser keeps cookies, follows no redirects, and says on forms that they come from the site's own page.
type browser struct {
	s      *site
	client *http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	s.must(err)
	return &browser{s: s, client: &http.Client{
		Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// on is the same browser at another replica, or behind another address.
func (b *browser) on(s *site) *browser {
	s.t.Helper()
	other := s.browser()
	to, err := url.Parse(s.address)
	s.must(err)
	other.client.Jar.SetCookies(to, b.cookies())
	return other
}

func (b *browser) cookies() []*http.Cookie {
	to, err := url.Parse(b.s.address)
	b.s.must(err)
	return b.client.Jar.Cookies(to)
}

// signIn loads the form and sends it back filled in.
func (b *browser) signIn(email string) *answer {
	b.s.t.Helper()
	form := b.get("/login").want(http.StatusOK).hidden()
	form.Set("email", email)
	form.Set("password", goodPassword)
	return b.post("/login", form).want(http.StatusSeeOther)
}

// get and post take pairs of header name and value; a header without a value is left out.
func (b *browser) get(path string, header ...string) *answer {
	b.s.t.Helper()
	return b.send(http.MethodGet, path, "", header...)
}

func (b *browser) post(path string, form url.Values, header ...string) *answer {
	b.s.t.Helper()
	return b.send(http.MethodPost, path, form.Encode(), append([]string{
		"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin", "Origin", b.s.address,
	}, header...)...)
}

func (b *browser) send(method, path, body string, header ...string) *answer {
	b.s.t.Helper()
	a, err := b.trySend(method, path, body, header...)
	b.s.must(err)
	return a
}

// trySend may be called from any goroutine.
func (b *browser) trySend(method, path, body string, header ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(b.s.t.Context(), method, b.s.address+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Del(header[i])
		if header[i+1] != "" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	return b.do(req)
}

func (b *browser) do(req *http.Request) (*answer, error) {
	res, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return &answer{
		t: b.s.t, asked: req.Method + " " + req.URL.Path, status: res.StatusCode, header: res.Header, body: string(text), cookies: res.Cookies(),
	}, err
}

// answer is a response, read whole.
type answer struct {
	t       testing.TB
	asked   string
	status  int
	header  http.Header
	body    string
	cookies []*http.Cookie
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d (to %q), want %d\n%s", a.asked, a.status, a.header.Get("Location"), status, a.text())
	}
	return a
}

func (a *answer) wantRedirect(to string) *answer {
	a.t.Helper()
	if a.want(http.StatusSeeOther); a.header.Get("Location") != to {
		a.t.Errorf("%s sends to %q, want %q", a.asked, a.header.Get("Location"), to)
	}
	return a
}

// cookie returns the cookie that the answer sets, or nil.
func (a *answer) cookie(name string) *http.Cookie {
	for _, c := range a.cookies {
		if c.Name == name {
			return c
		}
	}
	return nil
}

var (
	inline     = regexp.MustCompile(`</?(bdi|b|span|small)[^>]*>`)
	tags       = regexp.MustCompile(`<[^>]*>`)
	spaces     = regexp.MustCompile(`\s+`)
	inputs     = regexp.MustCompile(`<input ([^>]*)>`)
	attributes = regexp.MustCompile(`([a-z_-]+)(?:="([^"]*)")?`)
)

// text is what a page says, without its tags.
func (a *answer) text() string {
	return strings.TrimSpace(spaces.ReplaceAllString(html.UnescapeString(tags.ReplaceAllString(inline.ReplaceAllString(a.body, ""), " ")), " "))
}

// inputs returns the attributes of the page's input elements.
func (a *answer) inputs() []map[string]string {
	var list []map[string]string
	for _, m := range inputs.FindAllStringSubmatch(a.body, -1) {
		input := map[string]string{}
		for _, attr := range attributes.FindAllStringSubmatch(m[1], -1) {
			input[attr[1]] = html.UnescapeString(attr[2])
		}
		list = append(list, input)
	}
	return list
}

// hidden returns the hidden fields of the page's forms.
func (a *answer) hidden() url.Values {
	form := url.Values{}
	for _, input := range a.inputs() {
		if input["type"] == "hidden" {
			form.Add(input["name"], input["value"])
		}
	}
	return form
}

// value returns the value of the text field of this name.
func (a *answer) value(name string) string {
	for _, input := range a.inputs() {
		if input["name"] == name {
			return input["value"]
		}
	}
	return ""
}

// fieldErrors returns the sentences beside fields, by the field's name; "" is the whole form.
func (a *answer) fieldErrors() map[string]string {
	errs := map[string]string{}
	for _, m := range regexp.MustCompile(`<span class="error" id="([a-z_]+)-error">([^<]*)</span>`).FindAllStringSubmatch(a.body, -1) {
		errs[m[1]] = html.UnescapeString(m[2])
	}
	if m := regexp.MustCompile(`<p class="dangerbox" role="alert"[^>]*>([^<]*)</p>`).FindStringSubmatch(a.body); m != nil {
		errs[""] = html.UnescapeString(m[1])
	}
	return errs
}

// anonymous is the answer without what names the single request.
func (a *answer) anonymous() string {
	return strings.ReplaceAll(a.body, a.header.Get("X-Request-Id"), "(request id)")
}
