package store

import "testing"

// What may be lost at a failover is decided by what the primary last said of its standbys.
func TestSynchronous(t *testing.T) {
	for _, tt := range []struct {
		names    string
		standbys []string
		hosts    int
		want     bool
	}{
		{"", nil, 0, false},
		{"", []string{"a async"}, 1, false},
		{"a", []string{"a sync"}, 1, true},
		{"a", nil, 1, true}, // nothing is confirmed without it
		{"a", []string{"a "}, 1, false},
		{"a, b", []string{"a sync", "b potential"}, 2, false},
		{"a, b", []string{"a sync"}, 2, false}, // b has fallen behind
		{"a", []string{"a sync"}, 2, false},    // and another follows a
		{"FIRST 2 (a, b)", []string{"a sync"}, 2, true},
		{"FIRST 2 (a, b)", []string{"a sync", "b sync", "c async"}, 3, false},
		{"2 (a, b)", nil, 2, true},
		{"2(a,b)", nil, 3, false},
		{"any 1 (a, b)", []string{"a quorum", "b quorum"}, 2, false},
		{"ANY 2 (a, b)", []string{"a quorum", "b quorum"}, 2, true},
		{"any 2(*)", []string{"a quorum", "b quorum", "c quorum"}, 3, false},
		{"first", []string{"first sync"}, 1, true},
	} {
		v := serverView{StandbyNames: tt.names, Standbys: tt.standbys, StandbyHosts: tt.hosts}
		if got := v.synchronous(); got != tt.want {
			t.Errorf("%q with %q connected and %d hosts: %v", tt.names, tt.standbys, tt.hosts, got)
		}
	}
}
