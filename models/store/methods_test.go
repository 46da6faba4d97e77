package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// caller calls methods of one store.
type caller struct {
	*testing.T
	*store.Store
	url   string
	owner models.Visitor
	by    models.Actor
	round int
	ahead time.Duration // how far the store's clock is ahead
}

func (c *caller) exec(format string, args ...any) {
	c.Helper()
	storetest.Exec(c.T, c.url, fmt.Sprintf(format, args...))
}

// name returns a name that no other round has.
func (c *caller) name(of string) string { return fmt.Sprintf("%s %d", of, c.round) }

func (c *caller) key() (keytext.Secret, models.APIKey) {
	c.Helper()
	return storetest.MustKey(c.T, c.Store, c.owner)
}

// noStatement are the methods that ask nothing of the tables.
var noStatement = []string{"Close", "Followed", "Location", "RecordTimelines", "Standbys"}

// calls calls every other method of a Store, so that it runs all of its
// statements.
var calls = map[string]func(c *caller) error{
	"AccountByID":   func(c *caller) error { _, err := c.AccountByID(c.Context(), c.owner.AccountID); return err },
	"AccountByName": func(c *caller) error { _, err := c.AccountByName(c.Context(), c.owner.AccountName); return err },
	"AccountOfKey":  func(c *caller) error { _, key := c.key(); _, err := c.AccountOfKey(c.Context(), key.ID); return err },
	"AddSetupToken": func(c *caller) error { return c.AddSetupToken(c.Context(), []byte(c.name("added"))) },
	"AddUser": func(c *caller) error {
		_, err := c.AddUser(c.Context(), c.by, models.NewUser{Email: c.name("added"), Account: c.name("Added"), Role: models.RoleAdmin})
		return err
	},
	"AllKeys": func(c *caller) error { c.key(); _, err := c.AllKeys(c.Context(), c.owner.AccountID); return err },
	"ChangeByKey": func(c *caller) error {
		_, key := c.key()
		p := models.Principal{KeyID: key.ID, AccountID: key.AccountID}
		return c.ChangeByKey(c.Context(), "testing", p, models.FullAccess, func(*gorm.DB, models.Instant) error { return nil })
	},
	"CheckSetupToken": func(c *caller) error {
		c.exec("UPDATE memberships SET role = 'admin'")
		if err := c.AddSetupToken(c.Context(), []byte(c.name("checked"))); err != nil {
			return err
		}
		return c.CheckSetupToken(c.Context(), []byte(c.name("checked")))
	},
	"Checks": func(c *caller) error {
		for _, check := range c.Checks(c.Context(), []string{storetest.Secret}) {
			if check.State == store.CheckFail {
				return fmt.Errorf("%s: %s", check.Name, check.Text)
			}
		}
		return nil
	},
	"CreateFirstOwner": func(c *caller) error {
		c.exec("UPDATE memberships SET role = 'admin'")
		if err := c.AddSetupToken(c.Context(), []byte(c.name("first"))); err != nil {
			return err
		}
		_, err := c.CreateFirstOwner(c.Context(), []byte(c.name("first")), models.NewUser{Email: c.name("first"), Account: c.name("First")}, "")
		return err
	},
	"CreateKey": func(c *caller) error { c.key(); return nil },
	"DailyCosts": func(c *caller) error {
		_, err := c.DailyCosts(c.Context(), c.owner.AccountID, models.CostFilter{To: 1})
		return err
	},
	"DropRequest": func(c *caller) error { return c.DropRequest(c.Context(), c.owner.AccountID, "none") },
	"EndSession": func(c *caller) error {
		in := storetest.SignIn(c.owner, c.name("ended"))
		if err := c.StartSession(c.Context(), in); err != nil {
			return err
		}
		return c.EndSession(c.Context(), in.Hash, "")
	},
	"Failovers": func(c *caller) error {
		c.exec("INSERT INTO failovers (id, account_id, system_id, timeline, lost_from, lost_to) VALUES ('shown %d', '%s', 0, %d, 1, 2)",
			c.round, c.owner.AccountID, c.round)
		list, err := c.Failovers(c.Context(), c.owner.AccountID)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("no failovers")
		}
		return err
	},
	"HasSecrets": func(c *caller) error { _, err := c.HasSecrets(c.Context()); return err },
	"HasUsers":   func(c *caller) error { _, err := c.HasUsers(c.Context()); return err },
	"History": func(c *caller) error {
		_, key := c.key()
		list, err := c.History(c.Context(), key.AccountID, key.ID)
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%d lines", len(list))
		}
		return err
	},
	"KeepSession": func(c *caller) error { return c.KeepSession(c.Context(), []byte("none")) },
	"Key": func(c *caller) error {
		_, key := c.key()
		_, err := c.Key(c.Context(), key.AccountID, key.ID)
		return err
	},
	"KeyManagers": func(c *caller) error { _, err := c.KeyManagers(c.Context(), c.owner.AccountID); return err },
	"KeyOfForm": func(c *caller) error {
		_, key := c.key()
		_, err := c.KeyOfForm(c.Context(), key.AccountID, key.FormToken)
		return err
	},
	"KeyStats": func(c *caller) error { _, err := c.KeyStats(c.Context(), c.owner.AccountID); return err },
	"Keys": func(c *caller) error {
		_, key := c.key()
		c.key()
		for _, f := range []models.KeyFilter{
			{},
			{Query: key.Name},
			{Status: models.StatusActive, Mode: keytext.Live, Permission: models.CostsRead},
			{Status: models.StatusExpired},
			{Status: models.StatusRevoked, After: fmt.Sprintf("%d.%s", key.CreatedAt, key.ID)},
		} {
			if _, err := c.Keys(c.Context(), key.AccountID, f); err != nil {
				return fmt.Errorf("%+v: %w", f, err)
			}
		}
		return nil
	},
	"KeysByHash": func(c *caller) error {
		for i := range 4 { // each a statement of its own: one hash or two, described or not
			secret, key := c.key()
			hashes := []keytext.Hash{storetest.Hasher.Hash(secret), {1}}[:1+i%2]
			found, err := c.KeysByHash(c.Context(), hashes, i >= 2, nil)
			if err != nil {
				return err
			}
			if len(found) != 1 || found[0].ID != key.ID {
				return fmt.Errorf("found %v", found)
			}
		}
		return nil
	},
	"LookAtFailover": func(c *caller) error {
		id := c.name("looked at")
		c.exec("INSERT INTO failovers (id, account_id, system_id, timeline, lost_from, lost_to) VALUES ('%s', '%s', 0, %d, 1, 2)",
			id, c.owner.AccountID, 1000+c.round)
		return c.LookAtFailover(c.Context(), c.by, c.owner.AccountID, id)
	},
	"Migrate":         func(c *caller) error { return c.Migrate(c.Context()) },
	"MigrationStates": func(c *caller) error { _, err := c.MigrationStates(c.Context()); return err },
	"MissingSecrets":  func(c *caller) error { _, err := c.MissingSecrets(c.Context(), nil); return err },
	"NameInUse":       func(c *caller) error { _, err := c.NameInUse(c.Context(), c.owner.AccountID, "x"); return err },
	"NewestCostDay": func(c *caller) error {
		_, err := c.NewestCostDay(c.Context(), c.owner.AccountID)
		if errors.Is(err, models.ErrNotFound) {
			err = nil // in the first round, before a report is there
		}
		return err
	},
	"NoteTimeline": func(c *caller) error {
		if strings.HasPrefix(c.url, "sqlite:") {
			return nil // has no timelines
		}
		c.exec("DELETE FROM failovers WHERE system_id <> 0")
		c.exec("DELETE FROM timelines")
		c.exec("INSERT INTO timelines (system_id, timeline, first_seen_at, last_seen_at, synchronous) VALUES (1, 1, 1, 1, false)")
		for range 2 { // the first tells every account, and the second renews the row
			if err := c.NoteTimeline(c.Context()); err != nil {
				return err
			}
			c.exec("UPDATE timelines SET last_seen_at = 2")
		}
		return nil
	},
	"Ping": func(c *caller) error { return c.Ping(c.Context()) },
	"RecordRefusedSignIn": func(c *caller) error {
		for range 7 { // the sixth of a network and minute begins a sum, and the seventh adds to it
			if err := c.RecordRefusedSignIn(c.Context(), c.by); err != nil {
				return err
			}
		}
		return nil
	},
	"RefusalSources": func(c *caller) error {
		_, key := c.key()
		storetest.MustSaveUse(c.T, c.Store, models.Uses{Refusals: []models.RefusalSource{source(key.ID, "a", 1, 1)}})
		list, err := c.RefusalSources(c.Context(), key.AccountID, key.ID)
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%d sources", len(list))
		}
		return err
	},
	"ReplaceReport": func(c *caller) error {
		_, err := c.ReplaceReport(c.Context(), c.by, c.owner.AccountID, "a file", report(models.ReportRow{Day: 1, Organization: "o", Repository: "r"}))
		return err
	},
	"RequestRevocation": func(c *caller) error {
		_, key := c.key()
		for range 2 { // the second finds the request stored
			if err := c.RequestRevocation(c.Context(), c.by, key.AccountID, key.ID); err != nil {
				return err
			}
		}
		return nil
	},
	"RevocationRequests": func(c *caller) error {
		_, key := c.key()
		if err := c.RequestRevocation(c.Context(), c.by, key.AccountID, key.ID); err != nil {
			return err
		}
		list, err := c.RevocationRequests(c.Context(), 0)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("no requests")
		}
		return err
	},
	"RevokeKey": func(c *caller) error {
		_, key := c.key()
		for range 2 { // the second confirms the first
			if _, err := c.RevokeKey(c.Context(), c.by, key.AccountID, key.ID); err != nil {
				return err
			}
		}
		return nil
	},
	"RevokedAt": func(c *caller) error { _, key := c.key(); _, err := c.RevokedAt(c.Context(), key.ID); return err },
	"SaveUse": func(c *caller) error {
		_, key := c.key()
		uses := models.Uses{
			ID:       c.name("batch"),
			Newest:   []models.LastUse{{KeyID: key.ID, UsedAt: 1}},
			Counts:   []models.DailyUse{{KeyID: key.ID, Day: 1, Requests: 1}},
			Refusals: []models.RefusalSource{source(key.ID, "a", 1, 1), source("key_unknown", "a", 1, 1)},
		}
		for range 2 { // the second finds the batch saved
			if _, err := c.SaveUse(c.Context(), uses); err != nil {
				return err
			}
		}
		return nil
	},
	"SetPassword": func(c *caller) error { return c.SetPassword(c.Context(), c.by, c.owner.Email, "none") },
	"StartSession": func(c *caller) error {
		return c.StartSession(c.Context(), storetest.SignIn(c.owner, c.name("started")))
	},
	"UseByDay": func(c *caller) error {
		_, key := c.key()
		_, err := c.UseByDay(c.Context(), key.AccountID, []string{key.ID}, 0)
		return err
	},
	"UseSecrets":  func(c *caller) error { return c.UseSecrets(c.Context(), []string{storetest.Secret}) },
	"UserByEmail": func(c *caller) error { _, err := c.UserByEmail(c.Context(), c.owner.Email); return err },
	"Visitor": func(c *caller) error {
		in := storetest.SignIn(c.owner, c.name("visitor"))
		if err := c.StartSession(c.Context(), in); err != nil {
			return err
		}
		c.ahead = 2 * time.Minute // after which a session is kept alive
		defer func() { c.ahead = 0 }()
		_, err := c.Visitor(c.Context(), in.Hash)
		return err
	},
}

// TestEveryMethodIsCalled fails for a method that the tests of altered tables
// would miss.
func TestEveryMethodIsCalled(t *testing.T) {
	methods := reflect.TypeFor[*store.Store]()
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		if none := strings.Contains(" "+strings.Join(noStatement, " ")+" ", " "+name+" "); none == (calls[name] != nil) {
			t.Errorf("%s must be in either calls or noStatement", name)
		}
	}
	for name := range calls {
		if _, ok := methods.MethodByName(name); !ok {
			t.Errorf("there is no method %s", name)
		}
	}
}
