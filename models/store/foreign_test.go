package store_test

import (
	"log"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

type writerFunc func(line string)

func (w writerFunc) Write(line []byte) (int, error) { w(string(line)); return len(line), nil }

// While the primary is away, another cluster's that stands in the URL by mistake knows nothing of its keys, and is not asked.
func TestAnotherClusterIsRefused(t *testing.T) {
	var servers []*storetest.Cluster
	var address *url.URL
	for range 2 {
		c := storetest.NewCluster(t)
		var err error
		if address, err = url.Parse(c.Empty(t)); err != nil {
			t.Fatal(err)
		}
		address.Path = "/postgres" // which both have
		if err := storetest.Open(t, address.String()).Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, c)
	}
	ours, other := servers[0], servers[1]
	other.Stop(t)
	st := storetest.Open(t, storetest.WithHosts(address.String(), ours.Host(), other.Host()))
	var named atomic.Int64
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(line string) {
		if strings.Contains(line, "another cluster") && strings.Contains(line, other.Host()) {
			named.Add(1)
		}
	}), nil)))
	defer func() {
		slog.SetDefault(before)
		log.SetOutput(os.Stderr) // which the other logger had taken
		log.SetFlags(log.LstdFlags)
	}()
	other.Start(t)
	secret, _ := storetest.MustKey(t, st, storetest.MustOwner(t, st))
	ours.Stop(t)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		found, err := st.KeysByHash(t.Context(), []keytext.Hash{storetest.Hasher.Hash(secret)}, false, nil)
		if models.CodeOf(err) != models.CodeUnavailable {
			t.Fatalf("%v, %v", found, err)
		}
	}
	ours.Start(t)
	until(t, "answers", func() bool { return answers(t.Context(), st) })
	if n := named.Load(); n != 1 {
		t.Errorf("the log names it %d times", n)
	}
	// Who starts cannot know which is meant.
	_, err := store.Open(t.Context(), store.Config{URL: storetest.WithHosts(address.String(), ours.Host(), other.Host())})
	if err == nil || !strings.Contains(err.Error(), "two clusters") {
		t.Errorf("starting with both: %v", err)
	}
}
