package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"cicosts/models"
	"cicosts/models/keyring"
	"cicosts/models/keytext"
	"cicosts/models/revocation"
	"cicosts/models/store"
	"cicosts/models/usage"
	"cicosts/web"
)

// How long a shutdown may take: proxies turn away, requests are drained, then
// what is in memory is saved while revocations in doubt are tried to their end.
const (
	noticeTick    = 250 * time.Millisecond
	noticeTicks   = 20 // until a probe is told, at most
	turnTicks     = 8  // from then on: two probes of a proxy that probes each second
	drainTimeout  = 8 * time.Second
	flushTimeout  = 2 * time.Second
	revokeTimeout = 2 * time.Second
)

// serve serves until ctx ends. It goes on when standard output and standard
// error are not read or are closed.
func serve(ctx context.Context, c *call) error {
	signal.Ignore(syscall.SIGPIPE) // writes fail instead
	queue := newLogQueue(c.err, c.settings.logHandler)
	defer queue.close()
	err := c.serve(ctx, queue)
	if err == nil {
		return nil
	}
	queue.print(failureLine(err))
	return printedError{err}
}

// serve binds the address first, so that an address in use fails at once.
func (c *call) serve(ctx context.Context, queue *logQueue) error {
	log := queue.logger()
	slog.SetDefault(log)
	listener, err := net.Listen("tcp", c.settings.addr)
	if err != nil {
		return cannotListen("listening", "CICOSTS_ADDR or --addr", err)
	}
	defer listener.Close()
	m := newMetrics()
	m.countLogDropped(queue.dropped)
	metricsServer, err := m.serve(c.settings.metricsAddr, log)
	if err != nil {
		return err
	}
	defer metricsServer.Close()
	st, secrets, err := c.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	st.RecordTimelines()
	uses := usage.New(usage.Config{Sink: m.sink(st)})
	m.countDropped(uses.Dropped)
	revoker := revocation.New(revocation.Config{Store: st, Log: queue.urgentLogger()})
	revoker.Resume()
	m.countInDoubt(revoker.InDoubt)
	baseURL := c.baseURL(listener)
	handler, err := web.New(web.Config{
		Store: st, Revoker: revoker, Keys: newKeyring(m.source(st), secrets), Uses: uses, Hasher: secrets[0].hasher(), SecretID: secrets[0].fingerprint(),
		CookieKeys: cookieKeys(secrets), BaseURL: baseURL, TrustedProxies: c.settings.trustedProxies, Metrics: m, Log: log,
	})
	if err != nil {
		return err
	}
	server := newServer(handler, log)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	// Written before the link, which is on another stream.
	queue.urgentLogger().Info("listening", "addr", listener.Addr().String(), "database", st.Location())
	if metricsServer.Addr != "" {
		log.Info("metrics listening", "addr", metricsServer.Addr)
	}
	c.logChecks(ctx, log, st, secrets)
	if err := c.printSetupLink(ctx, st, baseURL); err != nil {
		log.Error("making a setup link", "error", err)
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping")
		giveNotice(handler.Withdraw(), time.Tick(noticeTick))
		shutDown(server, log)
	}
	return errors.Join(err, settle(uses, revoker))
}

// settle saves the use of keys and has revocations in doubt tried to their end.
// Each has a time of its own, so that neither takes the other's.
func settle(uses *usage.Recorder, revoker *revocation.Revoker) error {
	var closing sync.WaitGroup
	defer closing.Wait()
	closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
		defer cancel()
		revoker.Close(ctx)
	})
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	return uses.Close(ctx)
}

// cannotListen adds to the error of a port in use how to choose another.
func cannotListen(doing, setting string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %w; choose another address with %s", doing, err, setting)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

func newKeyring(source keyring.Source, secrets []secret) *keyring.Keyring {
	var hashers []*keytext.Hasher
	for _, s := range secrets {
		hashers = append(hashers, s.hasher())
	}
	return keyring.New(keyring.Config{Source: source, Hashers: hashers})
}

func cookieKeys(secrets []secret) [][]byte {
	var keys [][]byte
	for _, s := range secrets {
		keys = append(keys, s.cookieKeys()...)
	}
	return keys
}

// giveNotice returns when proxies have had time to learn that this replica is
// stopping and to turn to others: some ticks after a probe was told. It returns
// at once when told is nil, because no proxy probes. It counts ticks rather than
// time, so that a stalled machine does not shorten the notice.
func giveNotice(told <-chan struct{}, ticks <-chan time.Time) {
	if told == nil {
		return
	}
	for n := noticeTicks; n > 0; n-- {
		select {
		case <-told:
			n = 0
		case <-ticks:
		}
	}
	for range turnTicks {
		<-ticks
	}
}

// shutDown lets requests finish, for a while, and then cuts them off.
func shutDown(server *http.Server, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		log.Warn("requests that did not end were cut off", "error", errors.Join(err, server.Close()))
	}
}

// baseURL is the public address: the one set, or where the program listens.
func (c *call) baseURL(l net.Listener) string {
	switch {
	case c.settings.baseURL != "":
		return c.settings.baseURL
	case c.settings.addr == defaultAddr:
		return defaultBaseURL
	}
	return "http://" + l.Addr().String()
}

// printSetupLink prints a one-time link on a database without users. It is good on every replica until an owner exists.
func (c *call) printSetupLink(ctx context.Context, st *store.Store, baseURL string) error {
	if used, err := st.HasUsers(ctx); used || err != nil {
		return err
	}
	token := rand.Text() // 130 bits
	if err := st.AddSetupToken(ctx, models.HashToken(token)); err != nil {
		return err
	}
	go func() { // standard output may stall
		if _, err := fmt.Fprintf(c.out, "Create the first owner: %s/setup?token=%s\n", baseURL, token); err != nil {
			slog.Error("printing a setup link", "error", err)
		}
	}()
	return nil
}
