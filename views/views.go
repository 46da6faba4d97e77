// Package views draws the pages: templ components and the plain values they show. It does no I/O, reads no clock and
// knows no model: handlers fill in what a page says.
package views

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Page is what every page has.
type Page struct {
	Title   string
	Said    string   // what htmx has read out when it takes the main part into another page, or ""
	Visitor *Visitor // nil: nobody is signed in
}

// Visitor is the person signed in.
type Visitor struct {
	Account  string
	Email    string
	SeesKeys bool // the role may open the list of keys
}

// Errors are sentences by form field; "" is the whole form.
type Errors map[string]string

// Moment is an instant with words for it as of when the page was made.
type Moment struct {
	At   time.Time // zero: Text alone
	Text string
}

// Ago describes an instant of the past relative to now; "Never" for the zero time.
func Ago(t, now time.Time) Moment {
	if t.IsZero() {
		return Moment{Text: "Never"}
	}
	text := Date(t).Text
	switch d := now.Sub(t); {
	case d < time.Minute:
		text = "just now"
	case d < time.Hour:
		text = count(int(d/time.Minute), "minute") + " ago"
	case d < 24*time.Hour:
		text = count(int(d/time.Hour), "hour") + " ago"
	case d < 30*24*time.Hour:
		text = count(int(d/(24*time.Hour)), "day") + " ago"
	}
	return Moment{At: t, Text: text}
}

// Date describes an instant by its UTC date; "Never" for the zero time.
func Date(t time.Time) Moment {
	if t.IsZero() {
		return Moment{Text: "Never"}
	}
	return Moment{At: t, Text: t.UTC().Format("Jan 2, 2006")}
}

// Exact describes an instant by UTC date and minute.
func Exact(t time.Time) Moment {
	return Moment{At: t, Text: t.UTC().Format("Jan 2, 2006, 15:04 UTC")}
}

// Second describes an instant by UTC date and second.
func Second(t time.Time) Moment {
	return Moment{At: t, Text: t.UTC().Format("Jan 2, 2006, 15:04:05 UTC")}
}

func (m Moment) iso() string   { return m.At.UTC().Format(time.RFC3339) }
func (m Moment) title() string { return m.At.UTC().Format("Monday, January 2, 2006, 15:04:05 UTC") }

// count says n of a thing whose plural ends in s.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return Number(int64(n)) + " " + thing + "s"
}

// Number writes n with commas.
func Number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// LoginPage is the form that signs in.
type LoginPage struct {
	Page
	Email  string
	Next   string // where to go then: a local path, or ""
	Lost   bool   // the browser's session has ended
	Errors Errors
}

// SetupPage is the form that creates the first owner.
type SetupPage struct {
	Page
	Token, Account, Email string
	Errors                Errors
}

// NoSetupPage stands behind a setup link that makes no owner.
type NoSetupPage struct {
	Page
	OwnerExists bool // else the link is unknown
}

// NotAllowedPage stands where a page is that the visitor's role does not
// include.
type NotAllowedPage struct {
	Page
	Role     string
	Managers []string // e-mail addresses of whom to ask; none: not known
}

// Sentence says why, and whom to ask.
func (p NotAllowedPage) Sentence() string {
	why := "which can see API keys but not change them"
	if !p.Visitor.SeesKeys {
		why = "which does not include API keys"
	}
	ask := "an owner or admin of " + p.Visitor.Account
	if n := len(p.Managers); n == 1 {
		ask = p.Managers[0] + ", who manages them"
	} else if n > 1 {
		ask = strings.Join(p.Managers[:n-1], ", ") + " or " + p.Managers[n-1] + ", who manage them"
	}
	return fmt.Sprintf("Your role in %s is %s, %s. Ask %s.", p.Visitor.Account, p.Role, why, ask)
}

// ErrorPage says that something went wrong.
type ErrorPage struct {
	Page
	Heading   string
	Message   string
	Meanwhile string // what still works, or ""
	RequestID string
}

// KeyListPage is the list of keys with its filters.
type KeyListPage struct {
	Page
	CanManage  bool
	Stats      []Stat
	Filter     KeyFilter
	Keys       []KeyRow
	MoreURL    string // the next page, or ""
	NewestURL  string // the first page, where this is a later one, or ""
	NothingYet bool   // the account has no keys at all
	Failovers  []Failover
	NoActive   *NoActive // the list is empty because no key is active
	// AnyStatusURL is the same list with keys of any status too, or "" where it has them.
	AnyStatusURL string
	ClearURL     string // the list without filters, or "" where there are none
}

// NoActive is the state of an account whose keys have all ended.
type NoActive struct {
	CanManage  bool
	Ended      string // how many keys were revoked or expired, as a sentence, or ""
	RevokedURL string // or "" for none
	ExpiredURL string // or "" for none
}

// text says that no key is active.
func (n NoActive) text() string { return strings.TrimSpace("No active keys. " + n.Ended) }

// Failover is a time whose changes the database may have lost.
type Failover struct {
	ID       string
	From, To Moment
}

// URL is where to say that what may be lost was looked at.
func (f Failover) URL() string { return "/settings/api/failovers/" + f.ID + "/looked-at" }

// found says how many keys are listed.
func (p KeyListPage) found() string {
	text := count(len(p.Keys), "key")
	if p.MoreURL != "" || p.NewestURL != "" {
		text += " on this page"
	}
	return text
}

// Stat is one number above the list.
type Stat struct{ Label, Value, Note string }

// KeyFilter is what the list is narrowed by, as the form shows it.
type KeyFilter struct {
	Query       string
	Modes       []Option
	Statuses    []Option
	Permissions []Option
}

// Option is one choice of a select or a radio group.
type Option struct {
	Value, Label string
	Selected     bool
}

// KeyRow is one key in the list.
type KeyRow struct {
	ID, Name, Hint, Mode, Status string
	Notes                        []Note // what is due, what has ended
	Permissions                  []string
	Created                      Moment
	Creator                      string
	LastUsed                     Moment
	LastRoute                    string
	Ended                        Moment // when it was revoked or expired; zero while it is active
	Refused                      Refused
	Days                         []Day // oldest first, today last
	CanRevoke                    bool
	Changed                      bool // just now, to be seen
	InDoubt                      bool // its revocation is not confirmed yet
	GivenUp                      bool // its revocation never was, and is not tried any more
	Stopping                     bool // nothing is tried here any more, because the program is stopping
}

// Refused tells of the requests that were refused since a key has ended.
type Refused struct {
	Times string // "" for none
	Last  Moment // zero: not known
	From  string // its address
}

// Note is a short remark in a colour: "due" or "off".
type Note struct{ Kind, Text string }

// proof says in words since when an ended key is refused, and when it was last accepted.
func (k KeyRow) proof() string {
	text := "It took effect " + k.Ended.Text + ". Last accepted: "
	if k.LastUsed.At.IsZero() {
		return text + "none saved so far."
	}
	return text + k.LastUsed.Text + ", " + k.LastRoute + "."
}

// URL is the key's own page.
func (k KeyRow) URL() string { return "/settings/api/keys/" + k.ID }

// KeyForm is the form that generates a key.
type KeyForm struct {
	Page
	Dialog      bool // inside the dialog, for htmx
	FormToken   string
	Name        string
	Mode        string
	Scoped      bool
	Permissions []Permission
	Presets     []Preset
	Expires     []Option
	ExpiresOn   string
	Today       string
	Advanced    bool // opened
	Replaces    string
	Errors      Errors
}

// Permission is one that a key may have.
type Permission struct {
	Name, Means string
	Checked     bool
}

// Preset ticks several permissions at once. Permissions are separated by spaces.
type Preset struct{ Value, Label, Permissions string }

// Reveal shows a new key, once.
type Reveal struct {
	Page
	Dialog    bool
	Key       KeyRow
	Text      string // the key itself
	Curl      string
	Expires   Moment
	NameTwice bool // another active key has this name
}

// KeyPage is one key: facts, use and history.
type KeyPage struct {
	Page
	Key       KeyRow
	CanRevoke bool
	Proof     *Proof // nil while the key is active
	Facts     []Fact
	Routes    []RouteUse
	History   []HistoryLine
	ReplaceBy string // the form for a replacement, or ""
}

// Proof says since when a key is refused, and what came of that.
type Proof struct {
	Word     string // "Revoked" or "Expired"
	At       Moment
	Promise  string // what holds since
	Accepted Request
	Refused  string // how many requests since
	Last     Request
	Earlier  string // what was refused before, or ""
	Sources  []Source
	Others   string // what else was refused than from Sources, or ""
}

// Request is a request with a key. At is zero where there was none.
type Request struct {
	At                     Moment
	Route, Address, Client string
	Note                   string // or ""
}

// Source is where refused requests come from.
type Source struct {
	Last                          Moment
	First                         Moment // zero: there is but one
	Address, Client, Route, Times string
	Note                          string // or ""
}

// Fact is one line about a key. Text stands after Moment where that is set.
type Fact struct {
	Label, Text string
	Moment      *Moment
}

// RouteUse counts the requests with a key to one route.
type RouteUse struct {
	Route, Outcome, Requests string
}

// HistoryLine is one event.
type HistoryLine struct {
	At   Moment
	Text string
}
