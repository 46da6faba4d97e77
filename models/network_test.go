package models

import "testing"

func TestNetworks(t *testing.T) {
	for ip, want := range map[string][2]string{
		"192.0.2.1": {"192.0.2.1", "192.0.2.0/24"}, "::ffff:192.0.2.1": {"192.0.2.1", "192.0.2.0/24"},
		"2001:db8::1": {"2001:db8::/64", "2001:db8::/48"}, "2001:db8::ffff:1": {"2001:db8::/64", "2001:db8::/48"},
		"2001:db8:0:1::1": {"2001:db8:0:1::/64", "2001:db8::/48"}, "fe80::1%eth0": {"fe80::/64", "fe80::/48"}, "": {"", ""}, "x": {"x", "x"},
	} {
		if got := [2]string{Network(ip), WiderNetwork(ip)}; got != want {
			t.Errorf("the networks of %q are %q, want %q", ip, got, want)
		}
	}
}
