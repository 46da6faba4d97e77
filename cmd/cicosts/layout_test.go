package main

import (
	"strings"
	"testing"

	"cicosts/web/browsertest"
)

// TestLayout checks that the list fits at every width, also with fonts that are wider than those it was drawn with.
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

// cutOff is JavaScript for what does not fit into the window or into the box around the table.
const cutOff = `(() => {
	const faults = [], width = document.documentElement.clientWidth
	if (document.scrollingElement.scrollWidth > innerWidth) faults.push('the page scrolls sideways')
	for (const e of document.querySelectorAll('[data-generate], td.actions a, .pager a, #stats, .filters > *, .who button')) {
		const r = e.getBoundingClientRect(), box = e.closest('.table-wrap')?.getBoundingClientRect() ?? {left: 0, right: width}
		if (r.width && (r.left < box.left || r.right > box.right)) faults.push('cut off: ' + e.outerHTML.slice(0, 80))
	}
	return faults.slice(0, 3)
})()`
