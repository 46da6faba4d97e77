package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"cicosts/models/store"
)

// doctor prints a line for each thing that the promises rest on, and fails when one of them does not hold. It makes
// neither database, schema nor secret.
func doctor(ctx context.Context, c *call) error {
	checks := c.examine(ctx)
	failed := 0
	for _, check := range checks {
		if check.State == store.CheckFail {
			failed++
		}
		if _, err := fmt.Fprintf(c.out, "%-4s  %-18s  %s\n", check.State, check.Name, oneLine(check.Text)); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return nil
}

func (c *call) examine(ctx context.Context) []store.Check {
	st, err := store.Open(ctx, store.Config{URL: c.settings.databaseURL, Inspect: true})
	if err != nil {
		return []store.Check{{Name: "database", State: store.CheckFail, Text: err.Error()}}
	}
	defer st.Close()
	secrets, err := c.givenSecrets()
	checks := st.Checks(ctx, fingerprints(secrets))
	for i := range checks {
		if err != nil && checks[i].Name == "secret" {
			checks[i].State, checks[i].Text = store.CheckFail, err.Error()
		}
	}
	return checks
}

// givenSecrets is findSecrets without making one: none on SQLite is no error, since the first start makes it.
func (c *call) givenSecrets() ([]secret, error) {
	path, isFile := store.SQLitePath(c.settings.databaseURL)
	switch {
	case c.settings.secret != "":
		return parseSecrets(c.settings.secret)
	case c.settings.secretFile != "":
		return readSecrets(c.settings.secretFile)
	case !isFile:
		return nil, errNoSecret
	}
	secrets, err := readSecrets(filepath.Join(filepath.Dir(path), secretFileName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return secrets, err
}

// logChecks logs what doctor would warn of.
func logChecks(ctx context.Context, log *slog.Logger, st *store.Store, secrets []secret) {
	for _, check := range st.Checks(ctx, fingerprints(secrets)) {
		if check.State != store.CheckOK {
			log.Warn("a promise is at risk", "check", check.Name, "state", check.State, "finding", oneLine(check.Text))
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
