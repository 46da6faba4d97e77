package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

func newOwner(n int) models.NewUser {
	return models.NewUser{Email: fmt.Sprintf("owner%d@example.com", n), Account: "Acme", PasswordHash: "hash"}
}

// However many links are used at once, on whatever replica, one owner comes to be.
func TestFirstOwnerIsMadeOnce(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		const replicas = 6
		var wg sync.WaitGroup
		errs := make([]error, replicas)
		stores := make([]*store.Store, replicas)
		for i := range replicas {
			stores[i] = storetest.Open(t, url)
			if err := stores[i].AddSetupToken(t.Context(), models.HashToken(fmt.Sprint("token", i))); err != nil {
				t.Fatal(err)
			}
		}
		for i, st := range stores {
			wg.Go(func() {
				_, errs[i] = st.CreateFirstOwner(t.Context(), models.HashToken(fmt.Sprint("token", i)), newOwner(i), "192.0.2.1")
			})
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			} else if !errors.Is(err, models.ErrSetupDone) {
				t.Error(err)
			}
		}
		if made != 1 {
			t.Errorf("%d owners", made)
		}
		for i := range replicas {
			if err := stores[0].CheckSetupToken(t.Context(), models.HashToken(fmt.Sprint("token", i))); !errors.Is(err, models.ErrSetupDone) {
				t.Errorf("token %d afterwards: %v", i, err)
			}
		}
	})
}

func TestSetupToken(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		if has, err := st.HasUsers(ctx); has || err != nil {
			t.Errorf("HasUsers = %v, %v", has, err)
		}
		if err := st.AddSetupToken(ctx, models.HashToken("good")); err != nil {
			t.Fatal(err)
		}
		if err := st.CheckSetupToken(ctx, models.HashToken("good")); err != nil {
			t.Error(err)
		}
		if err := st.CheckSetupToken(ctx, models.HashToken("bad")); !errors.Is(err, models.ErrSetupLink) {
			t.Errorf("another token: %v", err)
		}
		storetest.MustUser(t, st, "Acme", models.RoleViewer)
		if err := st.CheckSetupToken(ctx, models.HashToken("good")); err != nil {
			t.Errorf("with a viewer but no owner: %v", err)
		}
		storetest.MustUser(t, st, "Acme", models.RoleOwner)
		if err := st.CheckSetupToken(ctx, models.HashToken("good")); !errors.Is(err, models.ErrSetupDone) {
			t.Errorf("with an owner: %v", err)
		}
	})
}

func TestUsersAndAccounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		a, err := st.AddUser(ctx, models.Operator, models.NewUser{Email: "Ada@Example.com", Account: "Acme Größe", Role: models.RoleOwner, PasswordHash: "h1"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := st.AddUser(ctx, models.Operator, models.NewUser{Email: "bob@example.com", Account: "ACME GRÖSSE", Role: models.RoleViewer, PasswordHash: "h2"})
		if err != nil || b.AccountID != a.AccountID || b.AccountName != "Acme Größe" {
			t.Errorf("second user: %+v, %v", b, err)
		}
		_, err = st.AddUser(ctx, models.Operator, models.NewUser{Email: "ada@example.COM", Account: "Other", Role: models.RoleOwner})
		if models.CodeOf(err) != models.CodeInvalidForm {
			t.Errorf("the same address: %v", err)
		}
		if _, err := st.AccountByName(ctx, "Other"); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("the account of a refused user: %v", err)
		}
		if u, err := st.UserByEmail(ctx, "ADA@example.com"); err != nil || u.ID != a.UserID || u.PasswordHash != "h1" {
			t.Errorf("UserByEmail: %+v, %v", u, err)
		}
		if _, err := st.UserByEmail(ctx, "nobody@example.com"); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("UserByEmail: %v", err)
		}
		if acc, err := st.AccountByID(ctx, a.AccountID); err != nil || acc.Plan != models.PlanTeam {
			t.Errorf("AccountByID: %+v, %v", acc, err)
		}
	})
}

// Accounts whose names look equal are one account. One that an earlier version
// stored with invisible characters is found by its name as it was typed.
func TestAccountNamesThatLookEqual(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		acme, old := storetest.MustUser(t, st, "Ac\u200bme", models.RoleOwner), storetest.MustUser(t, st, "Old  name", models.RoleOwner)
		storetest.Exec(t, url, fmt.Sprintf("UPDATE accounts SET name_folded = 'old  name' WHERE id = '%s'", old.AccountID))
		for name, want := range map[string]string{"acme": acme.AccountID, "ACME\u2060": acme.AccountID, "\u00adac\u200bme": acme.AccountID, "OLD  name": old.AccountID} {
			if v := storetest.MustUser(t, st, name, models.RoleMember); v.AccountID != want {
				t.Errorf("a user of %q is in %s, want %s", name, v.AccountName, want)
			}
		}
		if a, err := st.AccountByName(t.Context(), "ac me"); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("another name finds %+v, %v", a, err)
		}
	})
}

func TestKeyManagers(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		var want []string
		var account string
		for _, role := range []models.Role{models.RoleAdmin, models.RoleViewer, models.RoleMember, models.RoleOwner, models.RoleAdmin, models.RoleAdmin, models.RoleAdmin} {
			v := storetest.MustUser(t, st, "Acme", role)
			want, account = append(want, v.Email), v.AccountID
		}
		storetest.MustOwner(t, st) // of another account
		storetest.Exec(t, url, "UPDATE users SET disabled_at = 1 WHERE email = '"+want[4]+"'")
		want = []string{want[3], want[0], want[5]}
		if got, err := st.KeyManagers(t.Context(), account); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	})
}

func TestSessions(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		st, err := store.Open(t.Context(), store.Config{URL: url, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		user := storetest.MustUser(t, st, "Acme", models.RoleAdmin)
		hash := storetest.SignIn(user, "").User.PasswordHash
		start := func(id, before string) {
			t.Helper()
			in := storetest.SignIn(user, id)
			in.Before, in.User.PasswordHash = models.HashToken(before), hash
			if err := st.StartSession(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		alive := func(id string) bool {
			t.Helper()
			v, err := st.Visitor(t.Context(), models.HashToken(id))
			if err != nil && !errors.Is(err, models.ErrNotFound) {
				t.Fatal(err)
			}
			if err == nil && v != user {
				t.Errorf("visitor %+v, want %+v", v, user)
			}
			return err == nil
		}
		start("a", "")
		if !alive("a") || alive("b") {
			t.Error("a session that was started is not alive, or one that was not is")
		}
		start("b", "a")
		if alive("a") || !alive("b") {
			t.Error("the session before did not end at sign-in")
		}

		now = now.Add(store.SessionIdle - time.Second)
		if !alive("b") {
			t.Error("over before the idle limit")
		}
		now = now.Add(store.SessionIdle)
		if alive("b") {
			t.Error("alive at the idle limit")
		}

		start("c", "")
		begun := now
		for now.Sub(begun) < store.SessionAbsolute-6*time.Hour {
			now = now.Add(6 * time.Hour)
			if now.Sub(begun) < store.SessionAbsolute && !alive("c") {
				t.Fatalf("over after %v", now.Sub(begun))
			}
		}
		now = begun.Add(store.SessionAbsolute)
		if alive("c") {
			t.Error("alive at the absolute limit, though active")
		}

		start("d", "")
		if err := st.EndSession(t.Context(), models.HashToken("d"), "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
		if alive("d") {
			t.Error("alive after signing out")
		}
		if err := st.EndSession(t.Context(), models.HashToken("d"), "192.0.2.1"); err != nil {
			t.Errorf("signing out twice: %v", err)
		}

		start("e", "")
		if err := st.SetPassword(t.Context(), models.Operator, user.Email, "new hash"); err != nil {
			t.Fatal(err)
		}
		hash = "new hash"
		if u, err := st.UserByEmail(t.Context(), user.Email); err != nil || u.PasswordHash != hash {
			t.Errorf("password: %v, %v", u.PasswordHash, err)
		}
		if alive("e") {
			t.Error("alive after the password was set")
		}
		if err := st.SetPassword(t.Context(), models.Operator, "nobody@example.com", "h"); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("password of nobody: %v", err)
		}

		start("f", "")
		storetest.Exec(t, url, "UPDATE memberships SET role = 'viewer'")
		if v, err := st.Visitor(t.Context(), models.HashToken("f")); err != nil || v.Role != models.RoleViewer {
			t.Errorf("a changed role: %v, %v", v.Role, err)
		}
		storetest.Exec(t, url, "UPDATE users SET disabled_at = 1")
		if alive("f") {
			t.Error("alive though the user is disabled")
		}
	})
}

func TestSecrets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		if has, err := st.HasSecrets(ctx); has || err != nil {
			t.Errorf("HasSecrets = %v, %v", has, err)
		}
		use := func(ok bool, given ...string) {
			t.Helper()
			if err := st.UseSecrets(ctx, given); (err == nil) != ok {
				t.Errorf("UseSecrets(%v) = %v", given, err)
			}
		}
		use(true, "a")
		use(true, "a")
		use(false, "b")
		use(false, "b", "c")
		use(true, "a", "b")
		use(true, "a") // b was never the newest
		use(true, "b", "a")
		use(false, "a") // b is in use now
		use(true, "a", "b")
		if has, err := st.HasSecrets(ctx); !has || err != nil {
			t.Errorf("HasSecrets = %v, %v", has, err)
		}
	})
}

// A secret is in use while keys depend on it, even when it is no longer the newest.
func TestSecretOfKeysIsInUse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		_, key := storetest.MustKey(t, st, owner)
		time.Sleep(time.Millisecond) // so that one secret is newer than the other
		if err := st.UseSecrets(t.Context(), []string{"newer", storetest.Secret}); err != nil {
			t.Fatal(err)
		}
		if err := st.UseSecrets(t.Context(), []string{"newer"}); err == nil {
			t.Error("started without the secret of a key")
		}
		if _, err := st.RevokeKey(t.Context(), models.Operator, key.AccountID, key.ID); err != nil {
			t.Fatal(err)
		}
		if err := st.UseSecrets(t.Context(), []string{"newer"}); err != nil {
			t.Errorf("without keys that work: %v", err)
		}
	})
}
