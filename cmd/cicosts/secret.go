package main

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cicosts/models/keytext"
	"cicosts/models/store"
)

// secret is one of CICOSTS_SECRET. Everything that must not be guessed is derived from it by HKDF-SHA-256 (RFC 5869), each
// use under an info string of its own; it is never stored in the database, but its fingerprint is.
type secret []byte

const (
	minSecretBytes = 32
	secretFileName = "cicosts.secret"
)

func (s secret) derive(use string, n int) []byte {
	key, err := hkdf.Key(sha256.New, s, nil, "cicosts "+use, n)
	if err != nil {
		panic(err) // only for lengths that nobody asks for
	}
	return key
}

func (s secret) hasher() *keytext.Hasher { return keytext.NewHasher(s.derive("key pepper", 32)) }
func (s secret) fingerprint() string     { return hex.EncodeToString(s.derive("fingerprint", 8)) }

// cookieKeys returns the pair that signs and encrypts cookies.
func (s secret) cookieKeys() [][]byte {
	return [][]byte{s.derive("cookie signing", 32), s.derive("cookie encryption", 32)}
}

// parseSecrets reads base64 secrets, newest first. Its errors show nothing of them.
func parseSecrets(text string) ([]secret, error) {
	form := fmt.Sprintf("want one or more base64 secrets of at least %d bytes, separated by commas, newest first (make one with: openssl rand -base64 32)", minSecretBytes)
	var list []secret
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		part = strings.TrimRight(strings.TrimSpace(part), "=")
		raw, err := base64.RawStdEncoding.DecodeString(part)
		if err != nil {
			raw, err = base64.RawURLEncoding.DecodeString(part)
		}
		if err != nil || len(raw) < minSecretBytes {
			return nil, errors.New(form)
		}
		list = append(list, raw)
	}
	return list, nil
}

var errNoSecret = errors.New("CICOSTS_SECRET is not set; with PostgreSQL it is required, the same on every replica (make one with: openssl rand -base64 32)")

// openStore opens the database, migrating nothing. cfg.URL is set here.
func (c *call) openStore(ctx context.Context, cfg store.Config) (*store.Store, error) {
	if err := c.checkDatabaseIsThere(); err != nil {
		return nil, err
	}
	cfg.URL = c.settings.databaseURL
	return store.Open(ctx, cfg)
}

// checkDatabaseIsThere refuses an SQLite database that is missing while the
// secret that was generated with it is not: a folder that is not mounted or a
// mistyped path must not be answered with an empty database.
func (c *call) checkDatabaseIsThere() error {
	path, ok := store.SQLitePath(c.settings.databaseURL)
	if !ok {
		return nil
	}
	// In this order: a program that starts now makes the database first.
	file := generatedSecret(path)
	secretInfo, err := os.Stat(file)
	if err != nil {
		return nil // no such file, or none that could be read later
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if c.settings.secretFile != "" {
		given, err := os.Stat(c.settings.secretFile)
		if err == nil && os.SameFile(given, secretInfo) {
			return nil // the operator put it there; it was not generated
		}
	}
	return fmt.Errorf("the database %s is missing, but the secret that was generated with it, %s, is there: "+
		"put the database back or correct its path; to start anew, without the keys, move the secret away", path, file)
}

// generatedSecret is the file of the secret that is generated with the SQLite
// database at path.
func generatedSecret(path string) string { return filepath.Join(filepath.Dir(path), secretFileName) }

// openDatabase opens and migrates the database and finds the secrets that it works with, newest first.
func (c *call) openDatabase(ctx context.Context) (*store.Store, []secret, error) {
	st, err := c.openStore(ctx, store.Config{})
	if err != nil {
		return nil, nil, err
	}
	secrets, err := c.prepare(ctx, st)
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	return st, secrets, nil
}

func (c *call) prepare(ctx context.Context, st *store.Store) ([]secret, error) {
	if err := st.Migrate(ctx); err != nil {
		return nil, err
	}
	secrets, err := c.findSecrets(ctx, st)
	if err != nil {
		return nil, err
	}
	return secrets, st.UseSecrets(ctx, fingerprints(secrets))
}

func fingerprints(secrets []secret) []string {
	var list []string
	for _, s := range secrets {
		list = append(list, s.fingerprint())
	}
	return list
}

// findSecrets reads the secrets from where the settings say. With SQLite and none set they live in a file beside the
// database, which is made with a new database and never again: a database that lost its secret must not get another.
func (c *call) findSecrets(ctx context.Context, st *store.Store) ([]secret, error) {
	if c.settings.secret != "" {
		return parseSecrets(c.settings.secret)
	}
	if c.settings.secretFile != "" {
		return readSecrets(c.settings.secretFile)
	}
	path, ok := store.SQLitePath(c.settings.databaseURL)
	if !ok {
		return nil, errNoSecret
	}
	file := generatedSecret(path)
	secrets, err := readSecrets(file)
	if !errors.Is(err, os.ErrNotExist) {
		return secrets, err
	}
	used, err := st.HasSecrets(ctx)
	if err != nil {
		return nil, err
	}
	if used {
		// Perhaps another program that starts now has just made both.
		if secrets, err := readSecrets(file); !errors.Is(err, os.ErrNotExist) {
			return secrets, err
		}
		return nil, fmt.Errorf("the database %s exists, but its secret %s is missing: put the file back, or set CICOSTS_SECRET to what it held", path, file)
	}
	if err := writeSecret(file); err != nil {
		return nil, err
	}
	return readSecrets(file)
}

func readSecrets(file string) ([]secret, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the secret: %w", err)
	}
	secrets, err := parseSecrets(string(text))
	if err != nil {
		return nil, fmt.Errorf("reading the secret: %s is not usable: %w", file, err)
	}
	return secrets, nil
}

// writeSecret makes the file whole or not at all. Of two programs that start at once, both then read the first one's.
func writeSecret(file string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), secretFileName+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing the secret: %w", err)
	}
	defer os.Remove(tmp.Name())
	key := make([]byte, minSecretBytes)
	rand.Read(key) // never fails
	_, err = tmp.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Link(tmp.Name(), file)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("writing the secret: %w", err)
	}
	return nil
}
