package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/revocation"
	"cicosts/models/store"
)

const (
	// revokePatience is how long key revoke tries.
	revokePatience = 20 * time.Second
	// laterPatience replaces it for each further key once a revocation was not
	// confirmed, because the database is probably still away.
	laterPatience = time.Second
	// maxKeyLine is the length of a line that "key revoke -" reads, in bytes.
	maxKeyLine = 1024
)

// confirmations passes on the log records of confirmed revocations alone: the
// command itself says what failed, in one line.
type confirmations struct{ slog.Handler }

func (c confirmations) Handle(ctx context.Context, r slog.Record) error {
	if r.Message != revocation.ConfirmedMessage {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}

// keyRevoker revokes the keys that an operator names.
type keyRevoker struct {
	*call
	store   *store.Store
	revoker *revocation.Revoker
	wait    time.Duration // for the next key

	// These look up a text. They are read when the first text is.
	hashers     []*keytext.Hasher
	secrets     []secret
	secretsErr  error
	secretsRead bool
}

// keyRevoke revokes a key by its id, or each that standard input names.
func keyRevoke(ctx context.Context, c *call) error {
	id := c.rest[0]
	if id != "-" && !keyID.MatchString(id) && !harmless(id) {
		return badUsage("key revoke takes no text of a key as an argument, which other users of this machine can see; " +
			"give it on standard input: cicosts key revoke -")
	}
	return c.breakGlass(ctx, func(st *store.Store) error {
		log := slog.New(confirmations{c.logger().Handler()})
		k := &keyRevoker{call: c, store: st, wait: revokePatience}
		k.revoker = revocation.New(revocation.Config{Store: st, Patience: revokePatience, Log: log})
		defer k.revoker.Close(ctx)
		if id == "-" {
			return k.revokeLines(ctx)
		}
		key, err := k.revoke(ctx, id)
		if err == nil {
			_, err = fmt.Fprintf(c.out, "Revoked %s (%s), in effect since %s.\n", key.ID, key.Name, printed(key.RevokedAt))
		}
		return err
	})
}

// revoke revokes the key with the id, trying for a while. Its error says whether
// the key may still work.
func (k *keyRevoker) revoke(ctx context.Context, id string) (models.KeyRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, k.wait)
	defer cancel()
	accountID, err := k.store.AccountOfKey(ctx, id)
	if models.CodeOf(err) == models.CodeUnavailable {
		err = models.NotRevoked(err)
	}
	var key models.KeyRecord
	if err == nil {
		key, err = k.revoker.RevokeKey(ctx, models.Operator, accountID, id)
	}
	if err != nil {
		if models.CodeOf(err) == models.CodeUnavailable {
			k.wait = laterPatience
		}
		return key, revokeFailure(id, err)
	}
	k.wait = revokePatience
	return key, nil
}

// revokeFailure says in one line what is known of a key that was not revoked
// for certain, and what to do.
func revokeFailure(id string, err error) error {
	switch {
	case errors.Is(err, models.ErrNotFound):
		return fmt.Errorf("there is no key with the id %q", id)
	case errors.Is(err, models.ErrInDoubt):
		return fmt.Errorf("the revocation of %s is not confirmed yet, so the key may still work: "+
			"a running cicosts serve keeps trying; run the command again to be sure: %w", id, err)
	case errors.Is(err, models.ErrNotRevoked):
		return fmt.Errorf("%s is NOT revoked, and nobody tries: run the command again: %w", id, err)
	case models.CodeOf(err) == models.CodeUnavailable:
		return fmt.Errorf("it is unknown whether %s is revoked: run the command again: %w", id, err)
	}
	return fmt.Errorf("%s is NOT revoked: %w", id, err)
}

// revokeLines revokes every key that a line of standard input names, by its id
// or its text, and says of each what it did. It fails at the end if any line
// did not lead to a revoked key. It never prints a line that may be a text.
func (k *keyRevoker) revokeLines(ctx context.Context) error {
	lines, failed := 0, 0
	next := readLines(ctx, k.in)
	for {
		var line keyLine
		select {
		case <-ctx.Done():
			return fmt.Errorf("interrupted after %d keys", lines)
		case l, more := <-next:
			if !more {
				return k.sum(lines, failed)
			}
			line = l
		}
		if line.readErr != nil {
			return fmt.Errorf("reading standard input after line %d: %w", line.number-1, line.readErr)
		}
		if line.text == "" && !line.tooLong {
			continue
		}
		lines++
		said, ok := k.revokeLine(ctx, line)
		if !ok {
			failed++
		}
		if _, err := fmt.Fprintln(k.out, hideKeys(oneLine(said))); err != nil {
			return err
		}
	}
}

func (k *keyRevoker) sum(lines, failed int) error {
	if failed > 0 {
		return fmt.Errorf("%d of %d keys are not known to be revoked", failed, lines)
	}
	if lines == 0 {
		_, err := fmt.Fprintln(k.out, "Standard input names no key.")
		return err
	}
	return nil
}

// revokeLine returns what it did, and whether the key that the line names is
// revoked.
func (k *keyRevoker) revokeLine(ctx context.Context, line keyLine) (said string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, k.wait)
	defer cancel()
	id, name := line.text, line.text
	switch {
	case line.tooLong:
		return fmt.Sprintf("line %d: longer than %d bytes, so it names no key", line.number, maxKeyLine), false
	case keyID.MatchString(id), strings.HasPrefix(id, models.KeyIDPrefix) && harmless(id):
	default:
		name = fmt.Sprintf("line %d", line.number)
		var err error
		if id, err = k.idOf(ctx, line.text); err != nil {
			if models.CodeOf(err) == models.CodeUnavailable {
				k.wait = laterPatience
			}
			return fmt.Sprintf("%s: %v", name, err), false
		}
		name += ", " + id
	}
	before, beforeErr := k.store.RevokedAt(ctx, id)
	if errors.Is(beforeErr, models.ErrNotFound) {
		return name + ": no such key", false
	}
	key, err := k.revoke(ctx, id)
	since := fmt.Sprintf(" (%s), in effect since %s", key.Name, printed(key.RevokedAt))
	switch {
	case err != nil:
		return fmt.Sprintf("%s: not confirmed: %v", name, err), false
	case beforeErr != nil: // the database was away, and came back
		return name + ": revoked" + since, true
	case !before.IsZero():
		return name + ": was revoked already" + since, true
	}
	return name + ": revoked now" + since, true
}

// idOf finds the id of the key with the text. Its error never contains the text.
func (k *keyRevoker) idOf(ctx context.Context, text string) (string, error) {
	parsed, err := keytext.Parse(text)
	if err != nil && keyLike.MatchString(text) {
		return "", fmt.Errorf("no such key: the text is %w", err)
	}
	if err != nil {
		return "", errors.New("neither the id nor the text of a key")
	}
	if err := k.readSecrets(); err != nil {
		return "", fmt.Errorf("the key is not revoked: a text cannot be looked up without the secret; give the key's id, or the secret: %w", err)
	}
	hashes := make([]keytext.Hash, len(k.hashers))
	for i, h := range k.hashers {
		hashes[i] = h.Hash(parsed)
	}
	found, err := k.store.KeysByHash(ctx, hashes, false, nil)
	if err != nil {
		return "", fmt.Errorf("not confirmed: the key may still work, run the command again: %w", err)
	}
	if len(found) > 0 {
		return found[0].ID, nil
	}
	missing, err := k.store.MissingSecrets(ctx, fingerprints(k.secrets))
	if err != nil {
		return "", fmt.Errorf("not confirmed: the key may still work, run the command again: %w", err)
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("the key is not revoked: a text cannot be looked up without the secret with the fingerprint %s; give the key's id, or that secret",
			strings.Join(missing, ", "))
	}
	return "", errors.New("no such key")
}

// readSecrets reads the secrets once. It makes none.
func (k *keyRevoker) readSecrets() error {
	if k.secretsRead {
		return k.secretsErr
	}
	k.secretsRead = true
	k.secrets, k.secretsErr = k.givenSecrets()
	if k.secretsErr == nil && len(k.secrets) == 0 {
		k.secretsErr = errors.New("there is none beside the database")
	}
	for _, s := range k.secrets {
		k.hashers = append(k.hashers, s.hasher())
	}
	return k.secretsErr
}

// keyLine is a line of standard input, without the spaces around it.
type keyLine struct {
	number  int
	text    string // "" if tooLong
	tooLong bool
	readErr error // of what follows the last line
}

// readLines sends the lines of in until its end, an error or the end of ctx. It
// reads in the background, because a read from a terminal cannot be cancelled.
func readLines(ctx context.Context, in io.Reader) <-chan keyLine {
	lines := make(chan keyLine)
	go func() {
		defer close(lines)
		r := bufio.NewReaderSize(in, maxKeyLine+1)
		for number := 1; ; number++ {
			line := keyLine{number: number}
			part, err := r.ReadSlice('\n')
			line.text = strings.TrimSpace(string(part))
			for errors.Is(err, bufio.ErrBufferFull) {
				line.text, line.tooLong = "", true
				_, err = r.ReadSlice('\n')
			}
			ended := errors.Is(err, io.EOF)
			if err != nil && !ended {
				line = keyLine{number: number, readErr: err}
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return lines
}
