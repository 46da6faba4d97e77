package web

import (
	"net/http"
	"strings"
)

// acceptsGzip reports whether a client prefers gzip to a plain answer, by its
// Accept-Encoding headers (RFC 9110, section 12.5.3). Without such a header, or
// with one that is malformed about gzip, the plain answer is the safe one.
func acceptsGzip(h http.Header) bool {
	gzip, identity, others := -1, -1, -1 // weights in thousandths; -1: not named
	for _, line := range h.Values("Accept-Encoding") {
		for element := range strings.SplitSeq(line, ",") {
			coding, weight := parseCoding(element)
			switch coding {
			case "gzip", "x-gzip": // the same (section 8.4.1.3)
				if gzip < 0 || weight < gzip {
					gzip = weight
				}
			case "identity":
				identity = weight
			case "*":
				others = weight
			}
		}
	}
	if gzip < 0 {
		gzip = others
	}
	return gzip > 0 && gzip >= identity
}

// parseCoding reads one element of Accept-Encoding: a coding in lower case, and
// its weight in thousandths. A malformed weight is 0.
func parseCoding(element string) (coding string, weight int) {
	coding, parameter, weighted := strings.Cut(element, ";")
	coding = strings.ToLower(strings.Trim(coding, " \t"))
	if !weighted {
		return coding, 1000
	}
	parameter = strings.Trim(parameter, " \t")
	value, ok := strings.CutPrefix(strings.ToLower(parameter), "q=")
	if !ok {
		return coding, 0
	}
	return coding, parseWeight(value)
}

// parseWeight reads a qvalue (RFC 9110, section 12.4.2) in thousandths: 0 or 1,
// and up to three decimals. Anything else is 0.
func parseWeight(value string) int {
	whole, decimals, _ := strings.Cut(value, ".")
	if whole != "0" && whole != "1" || len(decimals) > 3 {
		return 0
	}
	n := 0
	for _, digit := range []byte(whole + decimals + "000"[len(decimals):]) {
		if digit < '0' || digit > '9' {
			return 0
		}
		n = n*10 + int(digit-'0')
	}
	if n > 1000 {
		return 0
	}
	return n
}
