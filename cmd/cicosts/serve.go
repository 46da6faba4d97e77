package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
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

// How long a shutdown may take: requests are drained, then what is in memory is saved.
const (
	drainTimeout = 8 * time.Second
	flushTimeout = 2 * time.Second
)

// serve binds the address first, so that an address in use fails at once, then serves until ctx ends.
func serve(ctx context.Context, c *call) error {
	log := c.logger()
	slog.SetDefault(log)
	listener, err := net.Listen("tcp", c.settings.addr)
	if err != nil {
		return cannotListen("listening", "CICOSTS_ADDR or --addr", err)
	}
	defer listener.Close()
	m := newMetrics()
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
	revoker := revocation.New(revocation.Config{Store: st, Log: log})
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
	log.Info("listening", "addr", listener.Addr().String(), "database", st.Location())
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
		shutDown(server, log)
	}
	flushCtx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	revoker.Close(flushCtx)
	return errors.Join(err, uses.Close(flushCtx))
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
	_, err := fmt.Fprintf(c.out, "Create the first owner: %s/setup?token=%s\n", baseURL, token)
	return err
}
