package handlers

import (
	"fmt"
	"time"

	"cicosts/models"
	"cicosts/views"
)

// endOf is the instant at which a key that is not active stopped working.
func endOf(k *models.KeyRecord, status models.Status) models.Instant {
	if status == models.StatusRevoked {
		return k.RevokedAt
	}
	return k.ExpiresAt
}

// refused says in the row of an ended key whether requests with it still come.
func refused(k *models.KeyRecord, now time.Time) views.Refused {
	n, last := k.Refused.Expired+k.Refused.Revoked, k.LastRefusal
	if n == 0 {
		return views.Refused{}
	}
	r := views.Refused{Times: times(n)}
	if last.Outcome.Ended() {
		r.Last, r.From = views.Ago(last.UsedAt.Time(), now), last.IP
	}
	return r
}

func times(n int64) string {
	if n == 1 {
		return "1 time"
	}
	return views.Number(n) + " times"
}

// proof says since when a key is refused and what has been asked with it; nil while it is active. sources are where refused
// requests came from, newest first.
func proof(k *models.KeyRecord, sources []models.RefusalSource, now time.Time) *views.Proof {
	status := k.StatusAt(models.At(now))
	end := endOf(k, status)
	p := &views.Proof{At: views.Second(end.Time())}
	var outcome models.Outcome
	var refused int64
	var late string // of a use accepted after the end, by the clock of the replica that accepted it
	switch status {
	case models.StatusRevoked:
		p.Word, outcome, refused = "Revoked", models.OutcomeRevoked, k.Refused.Revoked
		p.Promise = "No replica has accepted it since this was confirmed."
		late = "before the revocation was confirmed"
		if n := k.Refused.Expired; n > 0 {
			p.Earlier = fmt.Sprintf("Before that, %s refused because it had expired.", werePast(n))
		}
	case models.StatusExpired:
		p.Word, outcome, refused = "Expired", models.OutcomeExpired, k.Refused.Expired
		p.Promise = "Every replica has refused it since, by the clock of the database."
		late = "by the clock of a replica, which was ahead"
	default:
		return nil
	}
	if use := k.LastUse; !use.UsedAt.IsZero() {
		p.Accepted = views.Request{At: views.Second(use.UsedAt.Time()), Route: use.Route, Address: use.IP, Client: client(use.UserAgent)}
		if use.UsedAt > end {
			p.Accepted.Note = late
		}
	}
	var listed, since int64
	for i := range sources {
		s := &sources[i]
		p.Sources = append(p.Sources, source(s, outcome, now))
		listed += s.Requests
		if s.Outcome != outcome {
			continue
		}
		since += s.Requests
		if p.Last.At.At.IsZero() {
			p.Last = views.Request{At: views.Ago(s.LastAt.Time(), now), Route: s.Route, Address: s.IP, Client: client(s.UserAgent)}
		}
	}
	refused = max(refused, since) // of which more may have been saved since they were counted
	if refused == 0 {
		p.Refused = "No request with it has been refused so far."
	} else {
		p.Refused = requests(refused) + "."
	}
	if n := k.Refused.Expired + k.Refused.Revoked - listed; n > 0 {
		p.Others = fmt.Sprintf("Only the newest %d sources are kept. From others %s refused.", models.MaxRefusalSources, werePast(n))
	}
	return p
}

func source(s *models.RefusalSource, outcome models.Outcome, now time.Time) views.Source {
	v := views.Source{
		Last: views.Ago(s.LastAt.Time(), now), Address: s.IP, Client: client(s.UserAgent), Route: s.Route, Times: views.Number(s.Requests),
	}
	if s.Requests > 1 {
		v.First = views.Ago(s.FirstAt.Time(), now)
	}
	if s.Outcome != outcome {
		v.Note = "refused as " + string(s.Outcome)
	}
	return v
}

func werePast(n int64) string {
	if n == 1 {
		return "1 request was"
	}
	return views.Number(n) + " requests were"
}

// client is what a client calls itself.
func client(userAgent string) string {
	if userAgent == "" {
		return "a client without a name"
	}
	return userAgent
}
