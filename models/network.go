package models

import "net/netip"

// Network returns the addresses that one client has: one of IPv4, and a /64 of
// IPv6, because a client can use every address in it. It returns ip itself if
// that is not an address.
func Network(ip string) string { return prefixOf(ip, 32, 64) }

// WiderNetwork returns a network that often has one owner: a /24 of IPv4, and a
// /48 of IPv6. It returns ip itself if that is not an address.
func WiderNetwork(ip string) string { return prefixOf(ip, 24, 48) }

func prefixOf(ip string, bits4, bits6 int) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	addr = addr.Unmap().WithZone("")
	bits := bits6
	if addr.Is4() {
		bits = bits4
	}
	if bits == addr.BitLen() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}
