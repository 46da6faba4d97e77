package main

import (
	"strings"
	"testing"

	"cicosts/web/browsertest"
)

// TestLayout checks that the list fits at every width, also with fonts that are
// wider than those it was drawn with.
func TestLayout(t *testing.T) {
	b := browsertest.Start(t)
	s := newSurfer(t, b, newProgram(t), browsertest.View{})
	s.setUp()
	for _, name := range []string{strings.Repeat("long", 25), "Nightly warehouse export", "Cost portal", "Slack budget bot", "Expiring", "Alert automation", "Revoked"} {
		s.generate(name)
	}
	const day = 24 * 3600 * 1e6
	s.db("UPDATE api_keys SET permissions = 3 WHERE name = 'Nightly warehouse export'")
	s.db("UPDATE api_keys SET created_at = created_at - ? WHERE name IN ('Alert automation', ?)", 102*day, strings.Repeat("long", 25))
	s.db("UPDATE api_keys SET expires_at = created_at + ? WHERE name = 'Expiring'", 6*day)
	s.db("INSERT INTO last_uses SELECT id, false, created_at + 1, '198.51.100.7', 'curl/8.5.0', 'GET /v1/costs/by-repository', 'accepted' FROM api_keys WHERE name != 'Revoked'")
	s.db("UPDATE api_keys SET revoked_at = created_at + ? WHERE name = 'Revoked'", 1e6)
	s.refuse("Revoked", "revoked", 1234567, "2001:db8:85a3:1234:5678:8a2e:370:7334")

	s.goTo("/settings/api")
	s.inspect("rows")
	if n := browsertest.Eval[int](t, s.Page, "[...document.querySelectorAll('tr[data-key-id]')].filter(e => e.getBoundingClientRect().bottom <= innerHeight).length"); n < 5 {
		t.Errorf("%d rows are in sight at 1280 by 800, want 5", n)
	}
	s.db("UPDATE users SET email = 'platform-engineering-automation@continuous-integration.acme.example'")
	s.goTo("/settings/api?status=all")
	for _, font := range []string{"DejaVu Sans", "monospace"} {
		s.is("(document.documentElement.style.fontFamily = " + quoted(font) + ", true)")
		for width := 320; width <= 1400; width += 5 {
			s.Look(t, browsertest.View{Width: width, Height: 800})
			for _, fault := range browsertest.Eval[[]string](t, s.Page, cutOff) {
				t.Errorf("%d px in %s: %s", width, font, fault)
			}
		}
	}
	s.Quiet(t)
}

// cutOff is JavaScript for what does not fit into the window or into the box
// around the table.
const cutOff = `(() => {
	const faults = [], width = document.documentElement.clientWidth
	if (document.scrollingElement.scrollWidth > innerWidth) faults.push('the page scrolls sideways')
	for (const e of document.querySelectorAll('[data-generate], td.actions a, .pager a, #stats, .filters > *, .who button')) {
		const r = e.getBoundingClientRect(), box = e.closest('.table-wrap')?.getBoundingClientRect() ?? {left: 0, right: width}
		if (r.width && (r.left < box.left || r.right > box.right)) faults.push('cut off: ' + e.outerHTML.slice(0, 80))
	}
	for (const e of document.querySelectorAll('tbody th, tbody td')) {
		if (e.scrollWidth > e.clientWidth) faults.push('wider than its cell: ' + e.outerHTML.slice(0, 80))
	}
	return faults.slice(0, 3)
})()`

// TestChart looks at the chart of a key with accepted and refused requests.
func TestChart(t *testing.T) {
	s := newSurfer(t, browsertest.Start(t), newProgram(t), browsertest.View{})
	s.setUp()
	s.generate("Charted")
	s.db(`WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 29)
		INSERT INTO daily_uses SELECT id, created_at / 86400000000 - n, 'GET /v1/costs', 'accepted', 100 + 37 * n % 700 FROM api_keys, n`)
	s.db(`WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 9)
		INSERT INTO daily_uses SELECT id, created_at / 86400000000 - 3 * n, 'GET /v1/costs', 'insufficient_permissions', 1 + n * n FROM api_keys, n`)
	s.goTo("/settings/api")
	label := s.Attr(t, ".spark", "aria-label")
	s.Follow(t, ".key-name")
	if got := s.Attr(t, ".plot", "aria-label"); !strings.HasPrefix(got, label+". Most on ") || !strings.HasSuffix(label, " requests in the last 30 days, 295 refused") {
		t.Errorf("the chart says %q, the one in the list %q", got, label)
	}
	if got := s.Text(t, ".legend span + span b"); got != "295" {
		t.Errorf("the legend says that %q were refused", got)
	}
	s.inspect("chart")
	s.Click(t, ".card summary")
	s.WaitFor(t, ".figures")
	s.inspect("chart with its table")
	sizes := map[string]bool{}
	for _, v := range []browsertest.View{{Width: 320, Height: 640}, {Width: 1400, Height: 800}, {Width: 800, Height: 800, Dark: true}} {
		s.Look(t, v)
		sizes[browsertest.Eval[string](t, s.Page, "getComputedStyle(document.querySelector('.scale span')).fontSize")] = true
		if !s.is(`(plot => [...plot.querySelectorAll('rect.accepted, rect.refused')].every(e => {
			const r = e.getBoundingClientRect()
			return r.height > 1 && r.left >= plot.getBoundingClientRect().left - 1 && r.right <= plot.getBoundingClientRect().right + 1 && r.top >= plot.getBoundingClientRect().top - 1
		}))(document.querySelector('.plot'))`) {
			t.Errorf("at %d px a bar is not in the plot, or not to be seen", v.Width)
		}
		if contrast := browsertest.Eval[float64](t, s.Page, tones); contrast < 1.5 {
			t.Errorf("at %d px, dark %v: the tones have the contrast %.2f", v.Width, v.Dark, contrast)
		}
	}
	if len(sizes) != 1 {
		t.Errorf("the chart's text scales: %v", sizes)
	}
	if n := s.Count(t, "rect.refused + rect[fill='url(#hatch)']"); n != s.Count(t, "rect.refused") {
		t.Errorf("%d refused parts are hatched", n)
	}
	s.Quiet(t)
}

// tones is JavaScript for the contrast (WCAG 2.2) between accepted and refused
// requests.
const tones = `(() => {
	const light = selector => {
		const [r, g, b] = getComputedStyle(document.querySelector(selector)).fill.match(/[\d.]+/g)
			.map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
		return .2126 * r + .7152 * g + .0722 * b + .05
	}
	const contrast = light('.plot .accepted') / light('.plot .refused')
	return Math.max(contrast, 1 / contrast)
})()`
