package web

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/handlers"
	v1 "cicosts/handlers/v1"
	"cicosts/models"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// allPages and allEndpoints are the route tables, with handlers that cannot be called.
func allPages() []pageRoute    { return pageRoutes(handlers.New(handlers.Config{})) }
func allEndpoints() []apiRoute { return apiRoutes(v1.New(nil, nil, nil)) }

// TestRoutes shows who may call what in one file, so that no change of it goes unseen.
func TestRoutes(t *testing.T) {
	var b strings.Builder
	for _, r := range allPages() {
		secret := ""
		if r.secret {
			secret = "; shows a secret"
		}
		fmt.Fprintf(&b, "%-6s %-34s %s%s\n", r.method, r.path, r.access, secret)
	}
	for _, r := range allEndpoints() {
		fmt.Fprintf(&b, "%-6s %-34s %s\n", r.method, r.path, r.access)
	}
	const golden = "testdata/routes.golden"
	if *update {
		mustBeNil(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	mustBeNil(t, err)
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("the routes are not those of %s; if they are right, run the test with -update (-golden +code):\n%s", golden, diff)
	}
}

func TestEveryRouteSaysWhoMayCallIt(t *testing.T) {
	for _, r := range allPages() {
		if r.access == closed {
			t.Errorf("%s %s is closed", r.method, r.path)
		}
		if isAPI(r.path) {
			t.Errorf("%s %s is a page among the endpoints", r.method, r.path)
		}
	}
	for _, r := range allEndpoints() {
		if !r.access.open {
			t.Errorf("%s %s is closed", r.method, r.path)
		}
		if !isAPI(r.path) {
			t.Errorf("%s %s is an endpoint among the pages", r.method, r.path)
		}
	}
}

func TestAccess(t *testing.T) {
	roles := []models.Role{models.RoleOwner, models.RoleAdmin, models.RoleMember, models.RoleViewer, ""}
	for a, want := range map[access][]bool{
		closed:      {false, false, false, false, false},
		public:      {true, true, true, true, true},
		keyReaders:  {true, true, true, false, false},
		keyManagers: {true, true, false, false, false},
		99:          {false, false, false, false, false},
	} {
		var got []bool
		for _, role := range roles {
			got = append(got, a.allows(role))
		}
		if !slices.Equal(got, want) {
			t.Errorf("access %d: %v for %v, want %v", a, got, roles, want)
		}
	}
}
