package web

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func trusting(cidrs ...string) func(*Config) {
	return func(c *Config) {
		for _, cidr := range cidrs {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(cidr))
		}
	}
}

// TestClientAddress looks at whose address the history notes for a sign-in.
func TestClientAddress(t *testing.T) {
	for _, tt := range []struct {
		name      string
		trusted   []string
		forwarded []string
		want      string
	}{
		{"nobody is trusted", nil, []string{"203.0.113.7"}, "127.0.0.1"},
		{"the peer is not trusted", []string{"10.0.0.0/8"}, []string{"203.0.113.7"}, "127.0.0.1"},
		{"private addresses are not trusted by themselves", []string{"198.51.100.0/24"}, []string{"203.0.113.7, 10.1.2.3"}, "127.0.0.1"},
		{"the peer is trusted", []string{"127.0.0.0/8"}, []string{"203.0.113.7"}, "203.0.113.7"},
		{"nothing is forwarded", []string{"127.0.0.0/8"}, nil, "127.0.0.1"},
		{"the client claims to be another", []string{"127.0.0.0/8"}, []string{"192.0.2.1, 203.0.113.7"}, "203.0.113.7"},
		{"in a header of its own", []string{"127.0.0.0/8"}, []string{"192.0.2.1", "203.0.113.7"}, "203.0.113.7"},
		{"several proxies", []string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"192.0.2.1, 203.0.113.7, 10.9.9.9"}, "203.0.113.7"},
		{"loopback claimed behind a proxy", []string{"127.0.0.1/32", "10.0.0.0/8"}, []string{"127.0.0.2, 10.9.9.9"}, "127.0.0.2"},
		{"nonsense", []string{"127.0.0.0/8"}, []string{"192.0.2.1, a <b>"}, "127.0.0.1"},
		{"nonsense behind two proxies", []string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"192.0.2.1, unknown, 10.9.9.9"}, "10.9.9.9"},
		{"nonsense in front", []string{"127.0.0.0/8"}, []string{"a <b>, 203.0.113.7"}, "203.0.113.7"},
		{"nothing in front", []string{"127.0.0.0/8"}, []string{", 203.0.113.7"}, "203.0.113.7"},
		{"nothing behind", []string{"127.0.0.0/8"}, []string{"203.0.113.7,"}, "127.0.0.1"},
		{"an empty header", []string{"127.0.0.0/8"}, []string{""}, "127.0.0.1"},
		{"the client claims to be a proxy", []string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"10.9.9.9, 203.0.113.7"}, "203.0.113.7"},
		{"nobody but proxies", []string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"10.1.1.1, 10.2.2.2", "10.3.3.3"}, "10.1.1.1"},
		{"a port", []string{"127.0.0.0/8"}, []string{"192.0.2.1, 203.0.113.7:50000"}, "203.0.113.7"},
		{"a proxy's port", []string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"203.0.113.7:50000, 10.9.9.9:443"}, "203.0.113.7"},
		{"a bad port", []string{"127.0.0.0/8"}, []string{"203.0.113.7:x"}, "127.0.0.1"},
		{"IPv6 with a port", []string{"127.0.0.0/8"}, []string{"[2001:db8:2::7]:50000"}, "2001:db8:2::7"},
		{"IPv6 in brackets", []string{"127.0.0.0/8"}, []string{"[2001:DB8:2:0::7]"}, "2001:db8:2::7"},
		{"IPv4 in the form of IPv6", []string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"::ffff:203.0.113.7, ::ffff:10.9.9.9"}, "203.0.113.7"},
		{"a zone", []string{"127.0.0.0/8"}, []string{"fe80::7%eth0"}, "fe80::7"},
		{"IPv6", []string{"127.0.0.0/8", "2001:db8:1::/48"}, []string{"2001:db8:2::7, 2001:db8:1::9"}, "2001:db8:2::7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sqliteSite(t, trusting(tt.trusted...))
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.address+"/login", strings.NewReader(loginForm("x", "x").Encode()))
			mustBeNil(t, err)
			req.Header = http.Header{
				"Content-Type":   {"application/x-www-form-urlencoded"},
				"Sec-Fetch-Site": {"same-origin"}, "X-Forwarded-For": tt.forwarded, "X-Real-Ip": {"192.0.2.99"}, "Forwarded": {"for=192.0.2.98"},
				"True-Client-Ip": {"192.0.2.97"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil.example"},
			}
			a, err := s.browser().do(req)
			mustBeNil(t, err)
			a.want(http.StatusUnprocessableEntity)
			if diff := cmp.Diff([]string{tt.want}, s.query("SELECT ip FROM audit_events")); diff != "" {
				t.Errorf("address (-want +got):\n%s", diff)
			}
		})
	}
}
