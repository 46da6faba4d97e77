package main_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "cicosts"

var (
	// domain packages know the rules of the business and nothing of databases, HTTP or pages.
	domain = []string{"models", "models/billing", "models/keytext", "models/password", "models/sample"}

	// mayImport says which packages of the module each package may import, tests aside: {models, keytext} ← {store,
	// keyring, revocation, usage} ← cmd and {models, views} ← handlers ← web ← cmd. Nothing may import what only tests need.
	mayImport = map[string][]string{
		"models/keytext":  {},
		"models":          {"models/keytext"},
		"models/billing":  domain,
		"models/password": domain,
		"models/sample":   domain,

		"models/store":      domain,
		"models/keyring":    domain,
		"models/revocation": domain,
		"models/usage":      domain,

		"static":      {},
		"views":       {"static"},
		"handlers":    slices.Concat(domain, []string{"views", "static"}),
		"handlers/v1": domain,
		"web":         slices.Concat(domain, []string{"handlers", "handlers/v1", "views", "static"}),

		"cmd/cicosts": slices.Concat(domain, []string{
			"models/store", "models/keyring", "models/revocation", "models/usage", "handlers", "handlers/v1", "web",
		}),

		"models/store/storetest": {"models", "models/keytext", "models/store"},
		"web/browsertest":        {},
		"web/loadtest":           {},
	}

	database = []string{"models/store", "models/store/storetest"}
	http     = []string{"web", "handlers", "handlers/v1"}

	// keepers says which packages may know a library, or a part of the standard library; the first line that fits counts.
	keepers = []struct {
		path     string
		packages []string
	}{
		{"gorm.io", slices.Concat(database, []string{"models"})},
		{"github.com/jackc/pgx/v5", database},
		{"modernc.org/sqlite", database},
		{"github.com/pressly/goose/v3", database},
		{"database/sql/driver", slices.Concat(database, domain)},
		{"database/sql", database},
		{"github.com/gorilla", []string{"web"}},
		{"github.com/labstack", http},
		{"github.com/a-h/templ", slices.Concat(http, []string{"views"})},
		{"net/http", slices.Concat(http, []string{"static", "cmd/cicosts", "web/browsertest", "web/loadtest"})},
		{"github.com/chromedp", []string{"web/browsertest"}},
		{"github.com/prometheus", []string{"cmd/cicosts"}},
	}

	// topLevel is all there is beside dotfiles and what a run leaves, which git ignores.
	topLevel = []string{"Makefile", "README.md", "cmd", "go.mod", "go.sum", "handlers", "models", "static", "views", "web"}
)

// source is a Go file: the directory of its package, its name and what it imports.
type source struct {
	dir, name string
	imports   []string
}

func TestImportDirections(t *testing.T) {
	sources := goFiles(t, moduleRoot(t))
	if len(sources) < 10 {
		t.Fatalf("found only %d Go files", len(sources))
	}
	for _, fault := range importFaults(sources) {
		t.Error(fault)
	}
}

func TestImportFaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		src  source
		want []string
	}{
		{"right", source{"handlers", "a.go", []string{"cicosts/models", "cicosts/views", "github.com/labstack/echo/v4", "errors"}}, nil},
		{"against the direction", source{"models", "a.go", []string{"cicosts/models/store"}}, []string{"models/a.go imports models/store"}},
		{"past a layer", source{"handlers", "a.go", []string{"cicosts/models/store", "cicosts/web"}}, []string{"handlers/a.go imports models/store", "handlers/a.go imports web"}},
		{"siblings", source{"models/keyring", "a.go", []string{"cicosts/models/usage"}}, []string{"models/keyring/a.go imports models/usage"}},
		{"views see a model", source{"views", "a.go", []string{"cicosts/models"}}, []string{"views/a.go imports models"}},
		{"views do HTTP", source{"views", "a.go", []string{"net/http", "net/http/httptest"}}, []string{"views/a.go imports net/http", "views/a.go imports net/http/httptest"}},
		{"test support in the program", source{"web", "a.go", []string{"cicosts/web/browsertest", "cicosts/models/store/storetest"}}, []string{"web/a.go imports web/browsertest", "web/a.go imports models/store/storetest"}},
		{"GORM outside the store", source{"models/keyring", "a.go", []string{"gorm.io/gorm"}}, []string{"models/keyring/a.go imports gorm.io/gorm"}},
		{"driver types in a model", source{"models", "a.go", []string{"database/sql/driver"}}, nil},
		{"a database in a model", source{"models", "a.go", []string{"database/sql"}}, []string{"models/a.go imports database/sql"}},
		{"cookies outside web", source{"handlers", "a.go", []string{"github.com/gorilla/sessions"}}, []string{"handlers/a.go imports github.com/gorilla/sessions"}},
		{"Echo in the command", source{"cmd/cicosts", "a.go", []string{"github.com/labstack/echo/v4"}}, []string{"cmd/cicosts/a.go imports github.com/labstack/echo/v4"}},
		{"a name that only starts alike", source{"models/keyring", "a.go", []string{"gorm.io.example/x"}}, nil},
		{"a new package", source{"models/util", "a.go", nil}, []string{"models/util has no place in mayImport: add it to the table"}},
		{"the root as a package", source{".", "a.go", nil}, []string{". has no place in mayImport: add it to the table"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := importFaults([]source{tt.src})
			for i := range got {
				got[i], _, _ = strings.Cut(got[i], ", ")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left := strings.HasPrefix(e.Name(), "cicosts.") // cicosts.db and its secret
		if !strings.HasPrefix(e.Name(), ".") && !left && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s does not belong at the top of the repository", e.Name())
		}
	}
}

func importFaults(sources []source) []string {
	var faults []string
	unknown := map[string]bool{}
	for _, s := range sources {
		allowed, ok := mayImport[s.dir]
		if !ok {
			if !unknown[s.dir] {
				faults = append(faults, s.dir+" has no place in mayImport: add it to the table")
			}
			unknown[s.dir] = true
			continue
		}
		for _, path := range s.imports {
			why := ""
			if inside, ok := strings.CutPrefix(path, module+"/"); ok {
				path = inside
				if !slices.Contains(allowed, path) {
					why = fmt.Sprintf("may import %v", allowed)
				}
			} else {
				for _, k := range keepers {
					if path == k.path || strings.HasPrefix(path, k.path+"/") {
						if !slices.Contains(k.packages, s.dir) {
							why = fmt.Sprintf("which is for %v", k.packages)
						}
						break
					}
				}
			}
			if why != "" {
				faults = append(faults, fmt.Sprintf("%s/%s imports %s, %s", s.dir, s.name, path, why))
			}
		}
	}
	return faults
}

// goFiles reads every Go file of the module that is not a test. It reads the files itself so that a cached pass is
// forgotten when one of them changes.
func goFiles(t *testing.T, root string) []source {
	t.Helper()
	var found []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		s := source{dir: filepath.ToSlash(dir), name: name}
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		found = append(found, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// moduleRoot walks up to the folder of go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}
