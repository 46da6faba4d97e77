package models

import (
	"fmt"
	"math/bits"
	"strings"
)

// Permissions is a set of permissions, stored as an integer: bit n stands for AllPermissions[n], so the order is fixed
// for good and new ones go to the end. No permission implies another.
type Permissions uint16

// What a key may be allowed.
const (
	CostsRead Permissions = 1 << iota
	WorkflowsRead
	AlertsRead
	AlertsWrite
	WebhooksWrite

	// FullAccess is every permission.
	FullAccess Permissions = 1<<iota - 1
)

var permissionNames = [...]string{"costs:read", "workflows:read", "alerts:read", "alerts:write", "webhooks:write"}

// ParsePermissions returns the set of the named permissions, or an error that names the unknown one.
func ParsePermissions(names []string) (Permissions, error) {
	var set Permissions
next:
	for _, name := range names {
		for i, known := range permissionNames {
			if name == known {
				set |= 1 << i
				continue next
			}
		}
		return 0, Invalid("permissions", fmt.Sprintf("There is no permission %q. Permissions are %s.", name, strings.Join(permissionNames[:], ", ")))
	}
	return set, nil
}

// Names returns the permissions in the set, in the documented order; empty, never nil.
func (p Permissions) Names() []string {
	names := make([]string, 0, bits.OnesCount16(uint16(p)))
	for i, name := range permissionNames {
		if p&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Has reports whether every permission of q is in p.
func (p Permissions) Has(q Permissions) bool { return p&q == q }

func (p Permissions) String() string { return strings.Join(p.Names(), " ") }
