package revocation

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"cicosts/models/store/storetest"
)

// A mutant is the program with one fault of its own: a method is renamed, and a file of testdata/mutants takes its place.
type mutant struct {
	name    string
	file    string // in testdata/mutants
	source  string // of the program
	method  string // as its declaration begins, once in the source
	renamed string

	// Where the mutant shows, as in fault.
	site  func(t *testing.T, cluster *storetest.Cluster) *site
	round func(d *driver, n int)
}

var mutants = []mutant{
	{
		"accepted keys cached for a second", "cache.go", "models/keyring/keyring.go",
		"func (k *Keyring) check(", "func (k *Keyring) checkNow(", twoReplicas, undisturbed,
	},
	{
		"keys looked up on a standby", "standby.go", "models/store/lookup.go",
		"func (l *postgresLookup) keysByHash(", "func (l *postgresLookup) onPrimary(", withStandby, undisturbed,
	},
	{
		"confirmed before the commit", "early.go", "models/store/revocations.go",
		"func (s *Store) RevokeKey(", "func (s *Store) revokeKey(", twoReplicas, undisturbed,
	},
	{
		"200 on error", "failopen.go", "models/keyring/keyring.go",
		"func (k *Keyring) check(", "func (k *Keyring) checkNow(", secondBehindProxy, slow,
	},
}

// mutantRounds is how often a mutant may get away.
const mutantRounds = 10

// TestMutants shows that the driver can see: what TestFaults finds in no replica, it finds in each mutant.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("driving replicas is not short")
	}
	cluster := storetest.NewCluster(t)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			var found []violation
			caught := false
			f := fault{m.name, mutantRounds, m.site, m.round}
			f.drive(t, build(t, m.overlay(t)), cluster, func(d *driver) bool {
				found = d.settle()
				caught = slices.ContainsFunc(found, func(v violation) bool { return v.kind == acceptedRevoked })
				return !caught
			})
			if !caught {
				t.Errorf("not caught in %d rounds; in the last one: %v", mutantRounds, found)
			}
		})
	}
}

// overlay makes the mutant's files.
func (m *mutant) overlay(t *testing.T) map[string]string {
	t.Helper()
	source, err := filepath.Abs(filepath.Join(moduleRoot, m.source))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(m.method)); n != 1 {
		t.Fatalf("%s has %q %d times, want it once: the mutant would not be one", m.source, m.method, n)
	}
	changed := filepath.Join(t.TempDir(), filepath.Base(source))
	if err := os.WriteFile(changed, bytes.Replace(text, []byte(m.method), []byte(m.renamed), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	added, err := filepath.Abs(filepath.Join("testdata/mutants", m.file))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{source: changed, filepath.Join(filepath.Dir(source), "mutant.go"): added}
}

// withStandby has the mutant know a standby that lags behind.
func withStandby(t *testing.T, _ *storetest.Cluster) *site {
	s := onOwnServer(t, nil)
	standby := s.cluster.Standby(t, "recovery_min_apply_delay=1s")
	s.env = []string{"STANDBY_URL=" + storetest.WithHosts(s.database, standby.Host())}
	return s
}
