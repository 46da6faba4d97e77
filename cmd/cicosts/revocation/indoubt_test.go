package revocation

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cicosts/models/store/storetest"
)

// TestInDoubt keeps a revocation in doubt, asks the other replica about it, and
// kills the replica that was asked for it. The other one must never say that
// it was given up, and must finish it in the name of the admin who asked.
func TestInDoubt(t *testing.T) {
	if testing.Short() {
		t.Skip("driving replicas is not short")
	}
	program := build(t, nil)
	for name, hold := range map[string]func(t *testing.T, s *site, id string) (release func()){
		"standby missing": withoutStandby, "row locked": lockedRow,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := onOwnServer(t, nil)
			s.program = program
			s.open(t)
			text, id := s.admin.generate(t, s.replicas[0])
			page := "/settings/api/keys/" + id
			release := hold(t, s, id)
			status, body := s.admin.submit(t, s.replicas[0], page+"/revoke", nil)
			if status != http.StatusServiceUnavailable || !strings.Contains(body, "CICosts keeps trying") {
				t.Fatalf("a revocation in doubt: %d %s", status, body)
			}
			for range 20 {
				if err := s.poll(t, page); !errors.Is(err, errInDoubt) {
					t.Fatalf("the other replica: %v", err)
				}
			}
			s.replicas[0].kill()
			if err := s.poll(t, page); !errors.Is(err, errInDoubt) {
				t.Fatalf("the other replica, left alone: %v", err)
			}
			release()
			waitFor(t, "the other replica finishes it", func() error {
				err := s.poll(t, page)
				if err != nil && !errors.Is(err, errInDoubt) {
					t.Fatal(err)
				}
				return err
			})
			if status := ask(t, s.replicas[1], text); status != http.StatusUnauthorized {
				t.Errorf("the revoked key is answered %d", status)
			}
			s.wantRevokedOnce(t, id)
		})
	}
}

var errInDoubt = errors.New("the revocation is in doubt")

// poll asks the second replica what happened to the key, as a page does that
// shows a revocation in doubt. It returns nil when the key is revoked.
func (s *site) poll(t *testing.T, page string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.replicas[1].addr+page, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("HX-Request", "true")
	req.Header.Set("HX-Target", "main")
	status, body := s.admin.do(t, req)
	switch {
	case status == http.StatusNoContent || status == http.StatusServiceUnavailable: // or a busy machine
		return errInDoubt
	case status == http.StatusOK && strings.Contains(body, "is revoked. Requests with it fail."):
		return nil
	}
	return fmt.Errorf("it answers %d %s", status, body)
}

// ask sends one request with a key, again while it cannot be checked.
func ask(t *testing.T, r *replica, text string) (status int) {
	t.Helper()
	waitFor(t, "the key is checked", func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.addr+"/v1/key", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+text)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if status = resp.StatusCode; status == http.StatusServiceUnavailable {
			return errors.New("unavailable")
		}
		return nil
	})
	return status
}

// wantRevokedOnce checks that the history has one revocation, by the admin who
// asked for it, and that no request is left.
func (s *site) wantRevokedOnce(t *testing.T, id string) {
	t.Helper()
	db := storetest.DB(t, s.database)
	defer db.Close()
	var n, left int
	var by sql.NullString
	err := db.QueryRowContext(t.Context(), `SELECT count(*), min(actor_label), (SELECT count(*) FROM revocation_requests)
		FROM audit_events WHERE action = 'key.revoked' AND target_id = $1`, id).Scan(&n, &by, &left)
	if err != nil || n != 1 || by.String != "ops@acme.example" || left != 0 {
		t.Errorf("%d revocations by %q and %d requests, %v; want one by the admin", n, by.String, left, err)
	}
}

// withoutStandby has commits wait for a standby that is missing.
func withoutStandby(t *testing.T, s *site, _ string) (release func()) {
	s.cluster.SetStandbys(t, "missing")
	s.cluster.CommitsWait(t)
	return func() { s.cluster.SetStandbys(t, "") }
}

// lockedRow keeps the key from being changed, so that no try gets to its end
// before the replica that tries is killed.
func lockedRow(t *testing.T, s *site, id string) (release func()) {
	db := storetest.DB(t, s.database)
	tx, err := db.BeginTx(t.Context(), nil)
	if err == nil {
		_, err = tx.ExecContext(t.Context(), "SELECT id FROM api_keys WHERE id = $1 FOR NO KEY UPDATE", id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}
