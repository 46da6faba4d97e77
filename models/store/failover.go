package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Every host of the URL is asked once a second whether it is the primary. Two rounds are the longest that a promotion can
// stay unnoticed: one that a silent host drags out, and the next.
const (
	watchEvery   = time.Second
	watchTimeout = time.Second
	renewEvery   = 3 * time.Second
	findTimeout  = 15 * time.Second // at start, where servers are slow rather than away
)

// watcher knows which host is the primary and tells when that changes.
type watcher struct {
	base  *pgx.ConnConfig
	hosts []*watchedHost
	moved func(primary *watchedHost) // called when the primary is another, before anything else is told so
	stuck func() bool                // whether no lookup was answered since the last call, though some were tried

	mu      sync.Mutex // guards what follows
	views   []serverView
	refused []bool       // hosts logged as left behind or of another cluster
	primary *watchedHost // nil until found
	history history      // the newest that the primary ever showed
	view    serverView   // what the primary said last
	moves   int
	silent  bool          // there was no primary in the last round
	renewed time.Time     // when connections were last replaced though the primary was not
	change  change        // not yet recorded
	beat    beat          // the last one confirmed to this process
	wake    chan struct{} // asks for recording
}

// change is what this process saw of a move to another history.
type change struct {
	happened bool
	left     history // the first that was left
	unsynced bool    // replication was not known to be synchronous before
	beat     beat    // the last one confirmed before
}

func newWatcher(base *pgx.ConnConfig) *watcher {
	w := &watcher{base: base, wake: make(chan struct{}, 1)}
	byName := map[string]*watchedHost{}
	routes := append([]*pgconn.FallbackConfig{{Host: base.Host, Port: base.Port, TLSConfig: base.TLSConfig}}, base.Fallbacks...)
	for _, r := range routes {
		name := net.JoinHostPort(r.Host, fmt.Sprint(r.Port))
		if byName[name] == nil {
			byName[name] = &watchedHost{name: name}
			w.hosts = append(w.hosts, byName[name])
		}
		byName[name].routes = append(byName[name].routes, r)
	}
	w.views, w.refused = make([]serverView, len(w.hosts)), make([]bool, len(w.hosts))
	return w
}

// routeTo has cfg try the routes in this order.
func routeTo(cfg *pgconn.Config, routes []*pgconn.FallbackConfig) {
	cfg.Host, cfg.Port, cfg.TLSConfig = routes[0].Host, routes[0].Port, routes[0].TLSConfig
	cfg.Fallbacks = routes[1:]
}

// routesFrom returns the ways to every host, the given one's first.
func (w *watcher) routesFrom(first *watchedHost) []*pgconn.FallbackConfig {
	routes := slices.Clone(first.routes)
	for _, h := range w.hosts {
		if h != first {
			routes = append(routes, h.routes...)
		}
	}
	return routes
}

// find asks until some host is the primary, for a few seconds at the most, and says in one line why there is none.
func (w *watcher) find(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	for timeout := watchTimeout; ; timeout *= 2 {
		views := w.ask(ctx, timeout)
		slow := slices.ContainsFunc(views, func(v serverView) bool { return pgconn.Timeout(v.Err) })
		if slow && timeout == watchTimeout {
			continue // which takes writes may be one that was left, and who is slow the primary
		}
		w.judge(views)
		for i := range views {
			if views[i].Err == nil && !views[i].Standby && w.foreign(i) {
				return fmt.Errorf("%s and %s both accept writes and are of two clusters; take one out of the database URL", w.primary.name, w.hosts[i].name)
			}
		}
		if w.primary != nil {
			return nil
		}
		var reasons []string
		standbys := 0
		for i, h := range w.hosts {
			v := &w.views[i]
			switch {
			case v.Err == nil:
				standbys++
				reasons = append(reasons, h.name+" is a standby (in recovery) or read-only")
			default:
				reasons = append(reasons, v.Err.Error())
			}
		}
		if slow && ctx.Err() == nil {
			continue
		}
		err := errors.New(strings.Join(reasons, "; "))
		if standbys > 0 {
			return fmt.Errorf("no server accepts writes, and a standby may miss revocations; name the primary: %w", err)
		}
		return err
	}
}

// run asks every second until ctx ends.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.judge(w.ask(ctx, watchTimeout))
		}
	}
}

func (w *watcher) close() {
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	for _, h := range w.hosts {
		if h.conn != nil {
			_ = h.conn.Close(ctx)
		}
	}
}

// ask asks every host at once, for at most timeout.
func (w *watcher) ask(ctx context.Context, timeout time.Duration) []serverView {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	views := make([]serverView, len(w.hosts))
	var wg sync.WaitGroup
	for i, h := range w.hosts {
		wg.Go(func() { views[i] = h.ask(ctx, w.base) })
	}
	wg.Wait()
	return views
}

// judge takes note of what the hosts said, and follows the primary.
func (w *watcher) judge(views []serverView) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.views = views
	w.refuseOthers()
	best := w.best()
	if best >= 0 {
		for i := range views {
			if i != best && views[i].Err == nil && views[i].Standby {
				views[best].StandbyHosts++
			}
		}
		w.follow(w.hosts[best], views[best])
	}
	w.silent = best < 0
}

// refuseOthers logs once of each host that takes writes but is not to be followed. Call with mu held.
func (w *watcher) refuseOthers() {
	for i, v := range w.views {
		if v.Err != nil {
			continue
		}
		old, foreign := !v.Standby && v.History.before(w.history), !v.Standby && w.foreign(i)
		switch {
		case w.refused[i]:
		case old:
			slog.Error("refusing an old primary: it accepts writes on a timeline that was left; stop it, its data and the new primary's have parted",
				"host", w.hosts[i].name, "timeline", v.History.Timeline, "primary", w.primary.name, "primary_timeline", w.history.Timeline)
		case foreign:
			slog.Error("refusing the primary of another cluster: take it out of the database URL, or restart every replica to follow it",
				"host", w.hosts[i].name, "primary", w.primary.name)
		}
		w.refused[i] = old || foreign
	}
}

// foreign reports whether a host is of another cluster than the one that is followed, and not in its place either, where
// somebody has put it. Call with mu held.
func (w *watcher) foreign(i int) bool {
	return w.hosts[i] != w.primary && w.views[i].History.foreign(w.history)
}

// best returns the host to follow, or -1: one that accepts writes, with the newest timeline, and among equals the one that
// is followed already. Another cluster's is not, save from the start. Call with mu held.
func (w *watcher) best() int {
	best := -1
	for i, v := range w.views {
		if v.Err != nil || v.Standby || v.History.before(w.history) || w.foreign(i) {
			continue
		}
		if best < 0 || w.better(i, best) {
			best = i
		}
	}
	return best
}

func (w *watcher) better(i, than int) bool {
	a, b := w.views[i].History, w.views[than].History
	if same := a.System == w.history.System; same != (b.System == w.history.System) {
		return same
	}
	if a.Timeline != b.Timeline {
		return a.Timeline > b.Timeline
	}
	return w.hosts[i] == w.primary
}

// follow makes a host the primary. Call with mu held.
func (w *watcher) follow(h *watchedHost, v serverView) {
	before, beforeView, beforeHistory := w.primary, w.view, w.history
	w.primary, w.view = h, v
	if v.History.known() {
		w.history = v.History
	}
	changed := beforeHistory.known() && w.history != beforeHistory
	switch {
	case before == nil:
		return
	case before != h || changed:
		// Whoever asks for moves before a change and after it is told of one where the change may have gone to the server
		// that was left: the pools go first.
		w.moved(h)
		w.moves++
		slog.Warn("the database's primary has changed", "from", before.name, "to", h.name,
			"from_timeline", beforeHistory.Timeline, "to_timeline", w.history.Timeline)
	case (w.stuck() || w.silent) && time.Since(w.renewed) > renewEvery:
		// The server is well, but connections that it did not answer on keep their places in the pools for up to 15 s.
		w.moved(h)
		w.renewed = time.Now()
		slog.Info("connecting to the database anew")
	}
	if changed {
		if !w.change.happened {
			w.change = change{happened: true, left: beforeHistory, beat: w.beat}
		}
		w.change.unsynced = w.change.unsynced || !beforeView.synchronous()
	}
	if changed || beforeView.synchronous() != v.synchronous() {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// movesSoFar counts the changes of the primary.
func (w *watcher) movesSoFar() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moves
}

// refuseOldPrimary refuses a new connection to a server on a timeline that was left, or of another cluster until that is
// followed.
func (w *watcher) refuseOldPrimary(ctx context.Context, server *pgconn.PgConn) error {
	w.mu.Lock()
	newest := w.history
	w.mu.Unlock()
	if !newest.known() {
		return nil
	}
	h, err := readHistory(ctx, server)
	switch {
	case err != nil:
	case h.before(newest):
		err = fmt.Errorf("the server is an old primary, on timeline %d where %d is known", h.Timeline, newest.Timeline)
	case h.foreign(newest):
		err = errors.New("the server is of another cluster")
	}
	return err
}
