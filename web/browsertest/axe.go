package browsertest

import (
	_ "embed"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

//go:embed testdata/axe.min.js
var axeSource string

type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML           string `json:"html"`
		FailureSummary string `json:"failureSummary"`
	} `json:"nodes"`
}

func (v violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.ID, v.Help)
	for _, n := range v.Nodes {
		fmt.Fprintf(&b, "\n\t%s\n\t\t%s", n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", "\n\t\t"))
	}
	return b.String()
}

// Axe checks the page as it is now for accessibility faults and fails the test with each, the rules named in except
// aside. The page's content security policy stays in force: the checks come through the debugger.
func (p *Page) Axe(t testing.TB, except ...string) {
	t.Helper()
	for _, v := range p.axe(t, except) {
		t.Errorf("accessibility, %s", v)
	}
}

func (p *Page) axe(t testing.TB, except []string) []violation {
	t.Helper()
	if p.noScript {
		// axe needs promises. The page's own scripts were passed over when it loaded and stay so.
		ctx, cancel := p.limit()
		defer cancel()
		if err := setScript(ctx, true); err != nil {
			t.Fatalf("switching scripts on for axe: %v", err)
		}
		defer func() {
			if err := setScript(ctx, false); err != nil {
				t.Fatalf("switching scripts off after axe: %v", err)
			}
		}()
	}
	if !Eval[bool](t, p, "'axe' in window") {
		p.do(t, "loading axe", chromedp.Evaluate[chromedp.Void](axeSource))
	}
	rules := []string{}
	for _, rule := range except {
		rules = append(rules, quote(rule)+": {enabled: false}")
	}
	return Eval[[]violation](t, p, `axe.run({resultTypes: ['violations'], rules: {`+strings.Join(rules, ", ")+`}})
		.then(r => r.violations.map(v => ({id: v.id, help: v.help,
			nodes: v.nodes.map(n => ({html: n.html, failureSummary: n.failureSummary ?? ''}))})))`)
}
