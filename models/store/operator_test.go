package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

func TestAllKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		one, two := storetest.MustOwner(t, st), storetest.MustOwner(t, st)
		_, first := storetest.MustKey(t, st, one)
		_, second := storetest.MustKey(t, st, one)
		_, other := storetest.MustKey(t, st, two)
		keys, err := st.AllKeys(t.Context(), one.AccountID)
		if err != nil || len(keys) != 2 || keys[0].ID != first.ID || keys[1].ID != second.ID || keys[0].CreatorEmail != one.Email {
			t.Errorf("of one account: %+v, %v", keys, err)
		}
		if keys, err := st.AllKeys(t.Context(), ""); err != nil || len(keys) != 3 {
			t.Errorf("of all accounts: %d, %v", len(keys), err)
		}
		if key, err := st.RevokeKey(t.Context(), models.Operator, other.AccountID, other.ID); err != nil || key.RevokedAt.IsZero() {
			t.Errorf("revoking: %v", err)
		}
		h, err := st.History(t.Context(), two.AccountID, other.ID)
		if err != nil || len(h) != 2 || h[0].ActorType != models.ActorOperator {
			t.Errorf("history: %+v, %v", h, err)
		}
		if _, err := st.AccountOfKey(t.Context(), "key_missing"); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("the account of a missing key: %v", err)
		}
	})
}

func TestPing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		if err := st.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
	cluster := storetest.NewCluster(t)
	st := storetest.Open(t, cluster.Postgres(t))
	cluster.Stop(t)
	if err := st.Ping(t.Context()); models.CodeOf(err) != models.CodeUnavailable {
		t.Errorf("with the server stopped: %v", err)
	}
}

// What a server could make of a confirmed revocation decides whether the store opens.
func TestUnsafeServersAreRefused(t *testing.T) {
	cluster := storetest.NewCluster(t, "synchronous_commit=off")
	if _, err := store.Open(t.Context(), store.Config{URL: cluster.Empty(t)}); err == nil {
		t.Error("opened with synchronous_commit off")
	}
}

// A primary that has become a standby under the same name is no longer asked: it may miss revocations.
func TestStandbyIsNotAsked(t *testing.T) {
	cluster := storetest.NewCluster(t)
	url := cluster.Postgres(t)
	st := storetest.Open(t, url)
	owner := storetest.MustOwner(t, st)
	secret, _ := storetest.MustKey(t, st, owner)
	find(t, st, secret)
	cluster.Stop(t)
	if err := os.WriteFile(filepath.Join(cluster.Data, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cluster.Start(t)
	for range 3 {
		_, err := st.KeysByHash(t.Context(), []keytext.Hash{storetest.Hasher.Hash(secret)}, false, nil)
		if models.CodeOf(err) != models.CodeUnavailable {
			t.Errorf("a standby was asked: %v", err)
		}
	}
	if err := st.Ping(t.Context()); models.CodeOf(err) != models.CodeUnavailable {
		t.Errorf("ready on a standby: %v", err)
	}
	if _, err := store.Open(t.Context(), store.Config{URL: url}); err == nil || !strings.Contains(err.Error(), "standby") {
		t.Errorf("opened a standby: %v", err)
	}
	storetest.Exec(t, url, "SELECT pg_promote()") // so that it can be cleared away, and is asked again
	if got := find(t, st, secret); len(got) != 1 {
		t.Errorf("%d keys found after the promotion", len(got))
	}
}

func TestRevokedAtAndMissingSecrets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		_, key := storetest.MustKey(t, st, storetest.MustOwner(t, st))
		if at, err := st.RevokedAt(t.Context(), key.ID); !at.IsZero() || err != nil {
			t.Errorf("of a working key: %v, %v", at, err)
		}
		revoked, err := st.RevokeKey(t.Context(), models.Operator, key.AccountID, key.ID)
		if err != nil {
			t.Fatal(err)
		}
		if at, err := st.RevokedAt(t.Context(), key.ID); at != revoked.RevokedAt || err != nil {
			t.Errorf("of a revoked key: %v, %v; want %v", at, err, revoked.RevokedAt)
		}
		if _, err := st.RevokedAt(t.Context(), "key_missing"); !errors.Is(err, models.ErrNotFound) {
			t.Errorf("of a missing key: %v", err)
		}
		for _, tt := range []struct{ given, missing []string }{{nil, []string{storetest.Secret}}, {[]string{"other"}, []string{storetest.Secret}}, {[]string{"other", storetest.Secret}, nil}} {
			if missing, err := st.MissingSecrets(t.Context(), tt.given); !slices.Equal(missing, tt.missing) || err != nil {
				t.Errorf("given %v, %v is missing, %v", tt.given, missing, err)
			}
		}
	})
}
