package handlers

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/views"
)

func TestLocalPath(t *testing.T) {
	for next, local := range map[string]bool{
		"/": true, "/settings/api": true, "/settings/api?q=a%20b&status=all": true, "/%2F/x": true, "/x//y": true, "/ü": true, "/x#y": true, "/..//x": true, "/:80/x": true,
		"": false, "x": false, "//x": false, "///x": false, "/\\x": false, "\\\\x": false, "/x\\y": false, "/\tx": false, "/\n/x": false, "/\x7f": false, "/\x00": false,
		"https://x": false, "https:x": false, "javascript:alert(1)": false, " /x": false, "?x": false, "/%zz": false,
	} {
		want := ""
		if local {
			want = next
		}
		if got := LocalPath(next); got != want {
			t.Errorf("%q gives %q, want %q", next, got, want)
		}
	}
}

// FuzzLocalPath looks at every accepted path as a browser does: without tabs and line breaks, and with backslashes for slashes.
func FuzzLocalPath(f *testing.F) {
	for _, seed := range []string{"/", "//x", "/\\x", "/\t/x", "/x?y#z", "/..//x", "https:x"} {
		f.Add(seed)
	}
	browser := strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/")
	base, _ := url.Parse("https://cicosts.example/login")
	f.Fuzz(func(t *testing.T, next string) {
		got := LocalPath(next)
		if got != "" && got != next {
			t.Fatalf("%q is changed to %q", next, got)
		}
		if got == "" {
			return
		}
		seen := browser.Replace(got)
		if seen[0] != '/' || strings.HasPrefix(seen, "//") {
			t.Errorf("%q leads elsewhere", next)
		}
		if u, err := base.Parse(seen); err != nil || u.Host != base.Host || u.Scheme != base.Scheme {
			t.Errorf("%q leads to %v, %v", next, u, err)
		}
	})
}

func TestFormErrors(t *testing.T) {
	outage := models.Unavailable(errors.New("down"))
	for _, tt := range []struct {
		name string
		errs []error
		want views.Errors
		err  error
	}{
		{"none", []error{nil, nil}, nil, nil},
		{"one", []error{nil, models.Invalid("name", "Enter a name.")}, views.Errors{"name": "Enter a name."}, nil},
		{"the first of a field", []error{models.Invalid("a", "1"), models.Invalid("b", "2"), models.Invalid("a", "3")}, views.Errors{"a": "1", "b": "2"}, nil},
		{"another kind", []error{models.Invalid("a", "1"), outage}, nil, outage},
		{"a plain error", []error{errors.ErrUnsupported}, nil, errors.ErrUnsupported},
	} {
		got, err := formErrors(tt.errs...)
		if diff := cmp.Diff(tt.want, got); diff != "" || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}

func TestParseFilter(t *testing.T) {
	long := strings.Repeat("é", 300)
	for query, want := range map[string]models.KeyFilter{
		"":                         {Status: models.StatusActive},
		"status=all":               {},
		"status=expired&mode=test": {Status: models.StatusExpired, Mode: keytext.Test},
		"status=revoked&permission=alerts%3Aread": {Status: models.StatusRevoked, Permission: models.AlertsRead},
		"status=x&mode=y&permission=z&after=w":    {Status: models.StatusActive, After: "w"},
		"permission=":                             {Status: models.StatusActive},
		"q=+a+":                                   {Status: models.StatusActive, Query: " a "},
		"q=" + long:                               {Status: models.StatusActive, Query: long[:400]},
		"q=x" + long:                              {Status: models.StatusActive, Query: "x" + long[:398]},
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, parseFilter(q)); diff != "" {
			t.Errorf("%.40s (-want +got):\n%s", query, diff)
		}
	}
}

// The address of a filtered list gives the same filter again.
func TestFilterURL(t *testing.T) {
	for _, status := range []models.Status{models.StatusActive, models.StatusExpired, models.StatusRevoked, ""} {
		for _, mode := range []keytext.Mode{"", keytext.Live, keytext.Test} {
			for _, permission := range []models.Permissions{0, models.CostsRead, models.WebhooksWrite} {
				for _, text := range []string{"", "a&b=c;d +%", "ü"} {
					want := models.KeyFilter{Query: text, Status: status, Mode: mode, Permission: permission, After: "1.key_x"}
					u, err := url.Parse(filterURL(want, want.After))
					if err != nil || u.Path != "/settings/api" {
						t.Fatal(u, err)
					}
					if diff := cmp.Diff(want, parseFilter(u.Query())); diff != "" {
						t.Errorf("%s (-want +got):\n%s", u, diff)
					}
				}
			}
		}
	}
	if got := filterURL(models.KeyFilter{Status: models.StatusActive}, ""); got != "/settings/api" {
		t.Errorf("no filter is %s", got)
	}
}

func TestIsFormToken(t *testing.T) {
	for range 100 {
		if token := models.NewID(formTokenPrefix); !isFormToken(token) {
			t.Errorf("%q is none", token)
		}
	}
	good := formTokenPrefix + strings.Repeat("A", 22)
	for _, token := range []string{"", formTokenPrefix, good[:26], good + "A", "farm_" + good[5:], good[:26] + "\x00", good[:26] + "a", good[:26] + "1", good[:25] + "é"} {
		if isFormToken(token) {
			t.Errorf("%q is one", token)
		}
	}
}
