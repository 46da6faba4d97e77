package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// clientAddress finds the client's address: the peer's, or behind trusted proxies the right-most address in
// X-Forwarded-For that is not one of theirs. Where a trusted proxy names none, the client is that proxy.
func clientAddress(trusted []netip.Prefix) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	isTrusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return func(r *http.Request) string {
		client, ok := parseAddress(r.RemoteAddr)
		if !ok {
			return r.RemoteAddr
		}
		lines := r.Header["X-Forwarded-For"]
		for i := len(lines) - 1; i >= 0; i-- {
			hops := strings.Split(lines[i], ",")
			for j := len(hops) - 1; j >= 0 && isTrusted(client); j-- {
				hop, ok := parseAddress(strings.Trim(hops[j], " \t"))
				if !ok {
					return client.String()
				}
				client = hop
			}
		}
		return client.String()
	}
}

// parseAddress reads an address with or without a port, in brackets or not. An IPv4 address in the form of IPv6 is told as
// IPv4, and a zone is left out, so that one client has one address.
func parseAddress(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err == nil
}
