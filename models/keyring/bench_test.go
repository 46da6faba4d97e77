package keyring

import (
	"context"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
)

// BenchmarkVerify is what a check costs beside the statement: alone, with an answer at once, and in a crowd of 64, with one
// after a millisecond.
func BenchmarkVerify(b *testing.B) {
	secret := keytext.Mint(keytext.Live)
	text, state := secret.Reveal(), models.KeyState{Hash: hasher.Hash(secret), ID: "key_1", Permissions: models.FullAccess}
	delay := time.Duration(0)
	k := New(Config{
		Source: sourceFunc(func(_ context.Context, _ []keytext.Hash, _ bool, found []models.KeyState) ([]models.KeyState, error) {
			if delay > 0 {
				time.Sleep(delay)
			}
			return append(found, state), nil
		}), Hashers: []*keytext.Hasher{hasher},
	})
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Verify(b.Context(), text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("crowd", func(b *testing.B) {
		b.ReportAllocs()
		delay = time.Millisecond
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := k.Verify(b.Context(), text); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
