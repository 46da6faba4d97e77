package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// find looks one secret up as the keyring does.
func find(t *testing.T, st *store.Store, secrets ...keytext.Secret) []models.KeyState {
	t.Helper()
	var hashes []keytext.Hash
	for _, s := range secrets {
		hashes = append(hashes, storetest.Hasher.Hash(s))
	}
	found, err := st.KeysByHash(t.Context(), hashes, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestKeyFromCreationToRevocation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		secret, key := storetest.MustKey(t, st, owner, func(k *models.APIKey, e *models.Expiry) {
			k.Name, k.Mode, k.Permissions, e.Days = "Grafana", keytext.Test, models.CostsRead, 30
		})
		if key.CreatedAt.IsZero() || key.ExpiresAt != key.CreatedAt.Add(30*24*time.Hour) {
			t.Errorf("created %v, expires %v", key.CreatedAt.Time(), key.ExpiresAt.Time())
		}
		found := find(t, st, secret, keytext.Mint(keytext.Live))
		if len(found) != 1 {
			t.Fatalf("%d keys found", len(found))
		}
		if d := time.Since(found[0].Now.Time()).Abs(); d > time.Minute {
			t.Errorf("the database's clock is %v off", d)
		}
		found[0].Now = 0
		want := models.KeyState{
			Hash: storetest.Hasher.Hash(secret), ID: key.ID, AccountID: owner.AccountID, Mode: keytext.Test,
			Permissions: models.CostsRead, ExpiresAt: key.ExpiresAt,
		}
		if diff := cmp.Diff(want, found[0]); diff != "" {
			t.Error(diff)
		}

		revoked, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
		if err != nil || revoked.RevokedAt.IsZero() {
			t.Fatalf("revoking: %v, %v", revoked.RevokedAt, err)
		}
		if got := find(t, st, secret); len(got) != 1 || got[0].RevokedAt != revoked.RevokedAt {
			t.Errorf("after the revocation: %+v", got)
		}
		again, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
		if err != nil || again.RevokedAt != revoked.RevokedAt {
			t.Errorf("revoking again: %v, %v; want the first time kept", again.RevokedAt, err)
		}
		history, err := st.History(t.Context(), owner.AccountID, key.ID)
		if err != nil {
			t.Fatal(err)
		}
		var actions []models.Action
		for _, e := range history {
			actions = append(actions, e.Action)
			if e.ActorLabel != owner.Email || e.IP != "192.0.2.1" {
				t.Errorf("event %+v", e)
			}
		}
		if diff := cmp.Diff([]models.Action{models.ActionKeyRevoked, models.ActionKeyCreated}, actions); diff != "" {
			t.Error(diff)
		}
	})
}

// A description is of the key, its account and its newest accepted use, for one
// key and for many.
func TestKeysAreDescribed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner, stranger := storetest.MustOwner(t, st), storetest.MustOwner(t, st)
		want := map[string]models.KeyDescription{}
		var hashes []keytext.Hash
		add := func(by models.Visitor, uses ...models.LastUse) models.APIKey {
			_, key := storetest.MustKey(t, st, by)
			d := models.KeyDescription{Name: key.Name, AccountName: by.AccountName, CreatedAt: key.CreatedAt}
			for i := range uses {
				uses[i].KeyID = key.ID
				if !uses[i].Refused {
					d.LastUsedAt = uses[i].UsedAt
				}
			}
			storetest.MustSaveUse(t, st, models.Uses{Newest: uses})
			want[key.ID], hashes = d, append(hashes, key.Hash)
			return key
		}
		at := models.At(time.Now())
		add(owner)
		add(owner, models.LastUse{UsedAt: at, Outcome: models.OutcomeAccepted})
		add(stranger, models.LastUse{Refused: true, UsedAt: at.Add(time.Second), Outcome: models.OutcomeForbidden})
		both := add(stranger, models.LastUse{Refused: true, UsedAt: at.Add(time.Second), Outcome: models.OutcomeForbidden},
			models.LastUse{UsedAt: at.Add(-time.Second), Outcome: models.OutcomeAccepted})
		if _, err := st.RevokeKey(t.Context(), storetest.Actor(stranger), stranger.AccountID, both.ID); err != nil {
			t.Fatal(err)
		}
		unknown := storetest.Hasher.Hash(keytext.Mint(keytext.Live))
		asked := [][]keytext.Hash{append(slices.Clone(hashes), unknown), {unknown}, {unknown, {}}}
		for _, h := range hashes {
			asked = append(asked, []keytext.Hash{h})
		}
		for _, hashes := range asked {
			lean, err := st.KeysByHash(t.Context(), hashes, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			found, err := st.KeysByHash(t.Context(), hashes, true, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != len(lean) || len(found) > 0 && len(found) != len(hashes) && len(found) != len(hashes)-1 {
				t.Errorf("%d of %d keys found with descriptions, %d without", len(found), len(hashes), len(lean))
			}
			for i := range found {
				if d := found[i].Description; d == nil || *d != want[found[i].ID] {
					t.Errorf("description %+v, want %+v", d, want[found[i].ID])
				}
				found[i].Description, found[i].Now, lean[i].Now = nil, 0, 0
			}
			if diff := cmp.Diff(lean, found); diff != "" {
				t.Errorf("the state with a description (-without +with):\n%s", diff)
			}
		}
	})
}

// Another account's key answers exactly as a missing one, and stays as it is.
func TestKeysOfOtherAccounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner, stranger := storetest.MustOwner(t, st), storetest.MustOwner(t, st)
		secret, key := storetest.MustKey(t, st, owner)
		ctx := t.Context()
		use := models.DailyUse{KeyID: key.ID, Day: 1, Route: "GET /v1/key", Outcome: models.OutcomeAccepted, Requests: 1}
		storetest.MustSaveUse(t, st, models.Uses{Counts: []models.DailyUse{use}})
		for _, id := range []string{key.ID, "key_missing"} {
			if _, err := st.Key(ctx, stranger.AccountID, id); !errors.Is(err, models.ErrNotFound) {
				t.Errorf("Key: %v", err)
			}
			if _, err := st.RevokeKey(ctx, storetest.Actor(stranger), stranger.AccountID, id); !errors.Is(err, models.ErrNotFound) {
				t.Errorf("RevokeKey: %v", err)
			}
			if h, err := st.History(ctx, stranger.AccountID, id); err != nil || len(h) != 0 {
				t.Errorf("History: %d events, %v", len(h), err)
			}
			if u, err := st.UseByDay(ctx, stranger.AccountID, []string{id}, 0); err != nil || len(u) != 0 {
				t.Errorf("UseByDay: %d days, %v", len(u), err)
			}
		}
		if page, err := st.Keys(ctx, stranger.AccountID, models.KeyFilter{}); err != nil || len(page.Keys) != 0 {
			t.Errorf("Keys: %d, %v", len(page.Keys), err)
		}
		if stats, err := st.KeyStats(ctx, stranger.AccountID); err != nil || stats != (models.KeyStats{}) {
			t.Errorf("KeyStats: %+v, %v", stats, err)
		}
		if _, err := st.KeyOfForm(ctx, stranger.AccountID, key.FormToken); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("KeyOfForm: %v", err)
		}
		if used, err := st.NameInUse(ctx, stranger.AccountID, key.Name); used || err != nil {
			t.Errorf("NameInUse: %v, %v", used, err)
		}
		if got := find(t, st, secret); len(got) != 1 || got[0].RevokedAt != 0 {
			t.Errorf("the key: %+v", got)
		}
	})
}

// A form makes one key, however often and however much at once it is sent.
func TestFormMakesOneKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		_, first := storetest.MustKey(t, st, owner)
		key := first
		const n = 12
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				again := key
				again.ID, again.FormToken = models.NewID(models.KeyIDPrefix), "the form"
				again.Hash = storetest.Hasher.Hash(keytext.Mint(keytext.Live))
				_, errs[i] = st.CreateKey(t.Context(), storetest.Actor(owner), again, models.Expiry{})
			})
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			} else if !errors.Is(err, models.ErrConflict) {
				t.Error(err)
			}
		}
		if made != 1 {
			t.Errorf("%d keys made", made)
		}
		id, err := st.KeyOfForm(t.Context(), owner.AccountID, "the form")
		if err != nil {
			t.Fatal(err)
		}
		if h, err := st.History(t.Context(), owner.AccountID, id); err != nil || len(h) != 1 {
			t.Errorf("%d events, %v", len(h), err)
		}
	})
}

func TestRevokingAtOnceIsOneRevocation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		_, key := storetest.MustKey(t, st, owner)
		const n = 8
		times := make([]models.Instant, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				k, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
				if err != nil {
					t.Error(err)
				}
				times[i] = k.RevokedAt
			})
		}
		wg.Wait()
		for _, at := range times {
			if at != times[0] {
				t.Errorf("revoked at %v", times)
			}
		}
		if h, err := st.History(t.Context(), owner.AccountID, key.ID); err != nil || len(h) != 2 {
			t.Errorf("%d events, %v", len(h), err)
		}
	})
}

func TestNameInUse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		named := func(name string) func(*models.APIKey, *models.Expiry) {
			return func(k *models.APIKey, _ *models.Expiry) { k.Name = name }
		}
		storetest.MustKey(t, st, owner, named("Straße"))
		_, gone := storetest.MustKey(t, st, owner, named("Gone"))
		if _, err := st.RevokeKey(t.Context(), models.Operator, gone.AccountID, gone.ID); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"STRASSE": true, "straße": true, "Stras": false, "Gone": false} {
			if got, err := st.NameInUse(t.Context(), owner.AccountID, name); got != want || err != nil {
				t.Errorf("%q: %v, %v", name, got, err)
			}
		}
	})
}

func TestLookupOfManyKeysIsOneAnswer(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		var secrets []keytext.Secret
		for range 20 {
			s, _ := storetest.MustKey(t, st, owner)
			secrets = append(secrets, s)
		}
		for range 480 {
			secrets = append(secrets, keytext.Mint(keytext.Live))
		}
		if got := find(t, st, secrets...); len(got) != 20 {
			t.Errorf("%d of 20 keys found", len(got))
		}
	})
}

// What a failing audit event leaves of a change is nothing.
func TestChangeWithoutItsEventIsNoChange(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		owner := storetest.MustOwner(t, st)
		secret, key := storetest.MustKey(t, st, owner)
		storetest.Exec(t, url, "ALTER TABLE audit_events RENAME TO audit_events_away")
		if _, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID); err == nil {
			t.Error("revoked without an event")
		}
		second := key
		second.ID, second.FormToken, second.Hash = "key_second", "second", storetest.Hasher.Hash(keytext.Mint(keytext.Live))
		if _, err := st.CreateKey(t.Context(), storetest.Actor(owner), second, models.Expiry{}); err == nil {
			t.Error("created without an event")
		}
		if _, err := st.AddUser(t.Context(), models.Operator, models.NewUser{Email: "x@example.com", Account: "New", Role: models.RoleOwner}); err == nil {
			t.Error("user added without an event")
		}
		storetest.Exec(t, url, "ALTER TABLE audit_events_away RENAME TO audit_events")
		if got := find(t, st, secret); len(got) != 1 || got[0].RevokedAt != 0 {
			t.Errorf("the key: %+v", got)
		}
		if _, err := st.Key(t.Context(), owner.AccountID, "key_second"); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("the second key: %v", err)
		}
		if _, err := st.UserByEmail(t.Context(), "x@example.com"); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("the user: %v", err)
		}
	})
}

// A change that has begun is not cut short because the client has gone: it would be in doubt for no reason.
func TestChangesOutliveTheirClient(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		_, key := storetest.MustKey(t, st, owner)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if k, err := st.RevokeKey(gone, storetest.Actor(owner), owner.AccountID, key.ID); err != nil || k.RevokedAt.IsZero() {
			t.Errorf("revoking: %v", err)
		}
	})
}
