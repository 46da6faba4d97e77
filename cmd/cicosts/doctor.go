package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
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
	st, err := c.openStore(ctx, store.Config{Inspect: true})
	if err != nil {
		return []store.Check{{Name: "database", State: store.CheckFail, Text: err.Error()}}
	}
	defer st.Close()
	secrets, err := c.givenSecrets()
	checks := c.checks(ctx, st, secrets)
	for i := range checks {
		if err != nil && checks[i].Name == "secret" {
			checks[i].State, checks[i].Text = store.CheckFail, err.Error()
		}
	}
	return checks
}

// checks examines the open database and where the secrets come from.
func (c *call) checks(ctx context.Context, st *store.Store, secrets []secret) []store.Check {
	checks := st.Checks(ctx, fingerprints(secrets))
	exposed := store.CheckPrivate("secret", c.secretFile())
	if exposed.State != store.CheckWarn {
		return checks // a file that cannot be read is told of where it is read
	}
	for i := range checks {
		if checks[i].Name != exposed.Name {
			continue
		}
		if checks[i].State == store.CheckOK {
			checks[i].State = exposed.State
		}
		checks[i].Text += "; " + exposed.Text
		return checks
	}
	return append(checks, exposed)
}

// secretFile is the file that the secrets are read from, or "" where there is
// none.
func (c *call) secretFile() string {
	path, isFile := store.SQLitePath(c.settings.databaseURL)
	switch {
	case c.settings.secret != "":
		return ""
	case c.settings.secretFile != "":
		return c.settings.secretFile
	case isFile:
		return generatedSecret(path)
	}
	return ""
}

// givenSecrets is findSecrets without making one. It returns no secrets and no
// error on SQLite before the first start, which makes the secret.
func (c *call) givenSecrets() ([]secret, error) {
	if c.settings.secret != "" {
		return parseSecrets(c.settings.secret)
	}
	file := c.secretFile()
	if file == "" {
		return nil, errNoSecret
	}
	secrets, err := readSecrets(file)
	if c.settings.secretFile == "" && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return secrets, err
}

// logChecks logs what doctor would warn of.
func (c *call) logChecks(ctx context.Context, log *slog.Logger, st *store.Store, secrets []secret) {
	for _, check := range c.checks(ctx, st, secrets) {
		if check.State != store.CheckOK {
			log.Warn("a promise is at risk", "check", check.Name, "state", check.State, "finding", oneLine(check.Text))
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
