package usage

import (
	"cmp"
	"slices"

	"cicosts/models"
)

// refusals are the sources of refused requests by key: the newest of each, as few as are kept of it in the end, so that
// who changes the name or address of a client with each request fills no memory.
type refusals struct {
	byKey map[string][]models.RefusalSource
	size  int
}

// add merges a source with what is known of it. A new one needs room, or takes the place of the key's oldest.
func (r *refusals) add(s models.RefusalSource, room bool) {
	list, oldest := r.byKey[s.KeyID], 0
	for i := range list {
		if known := &list[i]; sameSource(known, &s) {
			known.FirstAt, known.LastAt = min(known.FirstAt, s.FirstAt), max(known.LastAt, s.LastAt)
			known.Requests += s.Requests
			return
		}
		if list[i].LastAt < list[oldest].LastAt {
			oldest = i
		}
	}
	switch {
	case room && len(list) < models.MaxRefusalSources:
		r.byKey[s.KeyID] = append(list, s)
		r.size++
	case len(list) > 0 && list[oldest].LastAt < s.LastAt:
		list[oldest] = s
	}
}

func sameSource(a, b *models.RefusalSource) bool { return compareSources(a, b) == 0 }

func compareSources(a, b *models.RefusalSource) int {
	return cmp.Or(cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.IP, b.IP), cmp.Compare(a.UserAgent, b.UserAgent),
		cmp.Compare(a.Route, b.Route), cmp.Compare(a.Outcome, b.Outcome))
}

func sourceOf(use *models.LastUse) models.RefusalSource {
	return models.RefusalSource{
		KeyID: use.KeyID, IP: use.IP, UserAgent: use.UserAgent, Route: use.Route, Outcome: use.Outcome,
		FirstAt: use.UsedAt, LastAt: use.UsedAt, Requests: 1,
	}
}

func (r *refusals) sorted() []models.RefusalSource {
	all := make([]models.RefusalSource, 0, r.size)
	for _, list := range r.byKey {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b models.RefusalSource) int { return compareSources(&a, &b) })
	return all
}
