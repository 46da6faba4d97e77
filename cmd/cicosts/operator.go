package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"cicosts/models"
	"cicosts/models/password"
	"cicosts/models/store"
)

// withDatabase runs a command on the open database.
func (c *call) withDatabase(ctx context.Context, fn func(st *store.Store) error) error {
	st, _, err := c.openDatabase(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(st), st.Close())
}

// inspect opens a database that exists, migrates nothing, and needs no secret.
func (c *call) inspect(ctx context.Context, fn func(st *store.Store, migrations []store.MigrationState) error) error {
	if err := c.checkDatabaseIsThere(); err != nil {
		return err
	}
	if path, ok := store.SQLitePath(c.settings.databaseURL); ok {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("there is no database %s yet; serve or migrate up makes it", path)
		}
	}
	st, err := c.openStore(ctx, store.Config{})
	if err != nil {
		return err
	}
	migrations, err := st.MigrationStates(ctx)
	if err == nil {
		err = fn(st, migrations)
	}
	return errors.Join(err, st.Close())
}

// breakGlass runs a command that has to work when all else is in disorder, save a schema that is not the program's.
func (c *call) breakGlass(ctx context.Context, fn func(st *store.Store) error) error {
	return c.inspect(ctx, func(st *store.Store, migrations []store.MigrationState) error {
		for _, m := range migrations {
			if m.AppliedAt.IsZero() {
				return fmt.Errorf("the database lacks migration %s; run cicosts migrate up", m.Name)
			}
		}
		return fn(st)
	})
}

func userAdd(ctx context.Context, c *call) error {
	s := c.settings
	role := models.Role(cmp.Or(s.role, string(models.RoleOwner)))
	if s.email == "" || s.account == "" || !s.passwordStdin {
		return badUsage("user add wants --email E --account NAME --password-stdin")
	}
	if !role.Valid() {
		return badUsage("--role%s is not usable: want owner, admin, member or viewer", shown(s.role))
	}
	email, err := models.CleanEmail(s.email)
	if err != nil {
		return badUsage("--email%s is not usable: want an address such as ada@example.com", shown(s.email))
	}
	account, err := models.CleanName("account", s.account)
	if err != nil {
		return badUsage("--account%s is not usable: want 1 to %d characters without control characters", shown(s.account), models.MaxName)
	}
	hash, err := c.readPassword(ctx, email)
	if err != nil {
		return err
	}
	return c.withDatabase(ctx, func(st *store.Store) error {
		v, err := st.AddUser(ctx, models.Operator, models.NewUser{Email: email, Account: account, Role: role, PasswordHash: hash})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.out, "Added %s as %s of %s.\n", v.Email, v.Role, v.AccountName)
		return err
	})
}

func userPassword(ctx context.Context, c *call) error {
	if c.settings.email == "" || !c.settings.passwordStdin {
		return badUsage("user password wants --email E --password-stdin")
	}
	if _, err := models.CleanEmail(c.settings.email); err != nil {
		return badUsage("--email%s is not usable: want an address such as ada@example.com", shown(c.settings.email))
	}
	hash, err := c.readPassword(ctx, c.settings.email)
	if err != nil {
		return err
	}
	return c.withDatabase(ctx, func(st *store.Store) error {
		err := st.SetPassword(ctx, models.Operator, c.settings.email, hash)
		if errors.Is(err, models.ErrNotFound) {
			return fmt.Errorf("there is no user with the e-mail address %s", named(c.settings.email))
		}
		if err == nil {
			_, err = fmt.Fprintf(c.out, "Set the password of %s and ended their sessions.\n", c.settings.email)
		}
		return err
	})
}

// readPassword takes one line of standard input and returns its hash.
func (c *call) readPassword(ctx context.Context, email string) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(c.in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	pass := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if err := password.Accept(pass, email); err != nil {
		return "", fmt.Errorf("the password is refused: %w", err)
	}
	return password.Hash(ctx, pass)
}

func keyList(ctx context.Context, c *call) error {
	return c.breakGlass(ctx, func(st *store.Store) error {
		accountID := ""
		if c.settings.account != "" {
			account, err := st.AccountByName(ctx, c.settings.account)
			if errors.Is(err, models.ErrNotFound) {
				return fmt.Errorf("there is no account %s", named(c.settings.account))
			}
			if err != nil {
				return err
			}
			accountID = account.ID
		}
		keys, err := st.AllKeys(ctx, accountID)
		if err != nil {
			return err
		}
		names := map[string]string{}
		for i := range keys {
			if names[keys[i].AccountID] != "" {
				continue
			}
			account, err := st.AccountByID(ctx, keys[i].AccountID)
			if err != nil {
				return err
			}
			names[account.ID] = account.Name
		}
		now := models.At(time.Now())
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tACCOUNT\tNAME\tKEY\tSTATUS\tPERMISSIONS\tCREATED\tLAST USED")
		for i := range keys {
			k := &keys[i]
			fmt.Fprintf(w, "%s\t%s\t%s\t%s…%s\t%s\t%s\t%s\t%s\n", k.ID, names[k.AccountID], k.Name, k.Mode.Prefix(), k.Hint,
				k.StatusAt(now), k.Permissions, printed(k.CreatedAt), printed(k.LastUse.UsedAt))
		}
		return w.Flush()
	})
}

func printed(i models.Instant) string {
	if i.IsZero() {
		return "never"
	}
	return i.Time().Format(time.RFC3339)
}

func importCommand(ctx context.Context, c *call) error {
	if c.settings.account == "" {
		return badUsage("import wants --account NAME")
	}
	return c.withDatabase(ctx, func(st *store.Store) error {
		var progress io.Writer
		if c.terminal {
			progress = c.err
		}
		return importReport(ctx, st, c.rest[0], c.settings.account, c.in, progress, c.out)
	})
}

func migrateUp(ctx context.Context, c *call) error {
	if err := c.withDatabase(ctx, func(*store.Store) error { return nil }); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out, "The schema is up to date.")
	return err
}

func migrateStatus(ctx context.Context, c *call) error {
	return c.inspect(ctx, func(_ *store.Store, migrations []store.MigrationState) error {
		for _, m := range migrations {
			when := "pending"
			if !m.AppliedAt.IsZero() {
				when = "applied " + m.AppliedAt.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(c.out, "%s  %s\n", m.Name, when)
		}
		return nil
	})
}

func version(_ context.Context, c *call) error {
	name := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok {
		name = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				name += " " + s.Value
			}
		}
	}
	_, err := fmt.Fprintln(c.out, "cicosts", name)
	return err
}
