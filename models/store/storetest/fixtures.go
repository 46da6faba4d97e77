package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
)

// Secret is the id of the secret under which MustKey hashes, with Hasher.
const Secret = "test-secret"

// Hasher hashes the keys of MustKey.
var Hasher = keytext.NewHasher([]byte("a pepper for tests"))

var serial atomic.Int64

// passwordHash is that of no password.
const passwordHash = "none"

// MustUser adds a user with the role to the named account, which is made when new. The user cannot sign in.
func MustUser(t testing.TB, st *store.Store, account string, role models.Role) models.Visitor {
	t.Helper()
	v, err := st.AddUser(t.Context(), models.Operator, models.NewUser{
		Email: fmt.Sprintf("user%d@example.com", serial.Add(1)), Account: account, Role: role, PasswordHash: passwordHash,
	})
	if err != nil {
		t.Fatalf("adding a user: %v", err)
	}
	return v
}

// MustOwner adds an owner of a new account.
func MustOwner(t testing.TB, st *store.Store) models.Visitor {
	t.Helper()
	return MustUser(t, st, fmt.Sprintf("Account %d", serial.Add(1)), models.RoleOwner)
}

// MustKey creates a live key with every permission that never expires, changed by the functions given.
func MustKey(t testing.TB, st *store.Store, by models.Visitor, change ...func(*models.APIKey, *models.Expiry)) (keytext.Secret, models.APIKey) {
	t.Helper()
	if err := st.UseSecrets(t.Context(), []string{Secret}); err != nil {
		t.Fatalf("registering the secret: %v", err)
	}
	n := serial.Add(1)
	key := models.APIKey{
		ID: models.NewID(models.KeyIDPrefix), AccountID: by.AccountID, Name: fmt.Sprintf("Key %d", n), Mode: keytext.Live,
		Permissions: models.FullAccess, SecretID: Secret, FormToken: fmt.Sprintf("form %d", n), CreatedBy: by.UserID,
	}
	var expiry models.Expiry
	for _, fn := range change {
		fn(&key, &expiry)
	}
	secret := keytext.Mint(key.Mode)
	key.NameFolded, key.Hint, key.Hash = models.FoldName(key.Name), secret.Hint(), Hasher.Hash(secret)
	key, err := st.CreateKey(t.Context(), Actor(by), key, expiry)
	if err != nil {
		t.Fatalf("creating a key: %v", err)
	}
	return secret, key
}

// MustSaveUse saves uses as a batch of their own. The database must have their keys.
func MustSaveUse(t testing.TB, st *store.Store, uses models.Uses) {
	t.Helper()
	uses.ID = models.NewID(models.UsesIDPrefix)
	dropped, err := st.SaveUse(t.Context(), uses)
	if err != nil || dropped > 0 {
		t.Fatalf("saving use: %d dropped, %v", dropped, err)
	}
}

// SignIn is the sign-in of a user that MustUser added, to a session with this
// id.
func SignIn(v models.Visitor, id string) models.SignIn {
	return models.SignIn{
		User: models.User{ID: v.UserID, Email: v.Email, PasswordHash: passwordHash}, Hash: models.HashToken(id), IP: "192.0.2.1", UserAgent: "agent",
	}
}

// Actor is the user as the history tells of them.
func Actor(v models.Visitor) models.Actor {
	return models.Actor{Type: models.ActorUser, ID: v.UserID, Label: v.Email, IP: "192.0.2.1"}
}
