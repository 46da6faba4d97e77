package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

// Three replicas on one PostgreSQL, under load: no request sent after the answer that confirms a revocation is accepted
// by any of them, and no key that was not revoked is ever refused.
func TestRevokedOnEveryReplica(t *testing.T) {
	env := map[string]string{"CICOSTS_DATABASE_URL": storetest.Postgres(t), "CICOSTS_SECRET": testSecret}
	replicas := []*running{startServing(t, env), startServing(t, env), startServing(t, env)}
	admin := newPerson(t, replicas[0].base)
	admin.setUp(replicas[0].setup)

	const rounds, clientsPerReplica = 10, 6
	kept := admin.generate(url.Values{"name": {"kept"}, "mode": {"live"}})
	for range rounds {
		key := admin.generate(url.Values{"name": {"revoked"}, "mode": {"live"}})
		id := admin.newestKey()

		var confirmed atomic.Int64 // when the confirmation arrived, in Unix nanoseconds
		var accepted, refused [3]atomic.Int64
		stop := make(chan struct{})
		var clients sync.WaitGroup
		end := sync.OnceFunc(func() { close(stop); clients.Wait() })
		defer end()
		for i, r := range replicas {
			for range clientsPerReplica {
				clients.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						sent := time.Now().UnixNano()
						switch status, _ := callWith(t, r.base+"/v1/key", key); status {
						case http.StatusOK:
							accepted[i].Add(1)
							if at := confirmed.Load(); at != 0 && sent > at {
								t.Errorf("replica %d accepted a request sent %v after the confirmation", i, time.Duration(sent-at))
							}
						case http.StatusUnauthorized:
							refused[i].Add(1)
						case http.StatusServiceUnavailable: // not known in time, on a busy machine: no promise is broken
						default:
							t.Errorf("replica %d answered %d", i, status)
						}
						if status, _ := callWith(t, r.base+"/v1/key", kept); status != http.StatusOK && status != http.StatusServiceUnavailable {
							t.Errorf("replica %d answered %d to a key that was not revoked", i, status)
						}
					}
				})
			}
		}
		waitUntil(t, "every replica has accepted the key", func() bool {
			return accepted[0].Load() > 5 && accepted[1].Load() > 5 && accepted[2].Load() > 5
		})
		waitUntil(t, "the revocation is confirmed", func() bool {
			status, body := admin.post("/settings/api/keys/"+id+"/revoke", nil)
			if status != http.StatusOK && status != http.StatusServiceUnavailable {
				t.Errorf("revoking: %d %s", status, body)
			}
			return status == http.StatusOK
		})
		confirmed.Store(time.Now().UnixNano())
		waitUntil(t, "every replica has refused the key", func() bool {
			return refused[0].Load() > 5 && refused[1].Load() > 5 && refused[2].Load() > 5
		})
		end()
	}
}

// callWith asks the API with a key, and returns the status and the code of an error.
func callWith(t *testing.T, address, key string) (status int, code string) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	var body struct{ Error struct{ Code string } }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode, body.Error.Code
}

// answered is what a request with a key is answered once the machine is not too busy to check it in time. Where uses are
// counted, ask for costs: GET /v1/key may count one and then run out of time.
func answered(t *testing.T, address, key string) (status int, code string) {
	t.Helper()
	waitUntil(t, "the key is checked", func() bool {
		status, code = callWith(t, address, key)
		return status != http.StatusServiceUnavailable
	})
	return status, code
}

// waitUntil waits for something that happens by itself, within a minute: the machine may be busy.
func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
