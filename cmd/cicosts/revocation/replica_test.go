package revocation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	moduleRoot = "../../.."
	testSecret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

	patience = time.Minute // for what happens by itself, on a machine however busy
)

// build builds the program, with the files of the overlay in the place of its own, and returns its path.
func build(t *testing.T, overlay map[string]string) string {
	t.Helper()
	readSources(t)
	dir := t.TempDir()
	replace, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	list, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "cicosts")
	if err := os.WriteFile(list, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "-o", program, "./cmd/cicosts")
	cmd.Dir = moduleRoot
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return program
}

// readSources reads what the program is built of, so that a cached pass is forgotten when any of it changes.
func readSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(moduleRoot, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != moduleRoot && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		_, err = os.Stat(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A process runs until the test ends, or until this process has ended, however that came about.
type process struct {
	cmd   *exec.Cmd
	leash *exec.Cmd // kills it when its own standard input ends
	slack io.Closer // that input's other end
	ended chan struct{}
}

// start starts a program in a session of its own, so that Ctrl-C reaches the tests alone, with its output in a file.
func start(t *testing.T, cmd *exec.Cmd, output string) *process {
	t.Helper()
	log, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // most are killed
	}()
	t.Cleanup(p.kill)
	p.leash = exec.Command("/bin/sh", "-c", `read -r word; kill -9 "$1"`, "leash", strconv.Itoa(cmd.Process.Pid))
	p.leash.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.slack, err = p.leash.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.leash.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// kill ends the process as kill -9 does, and waits for that.
func (p *process) kill() {
	if p.leash != nil && p.leash.Process != nil { // first, since the process's id is free for others once it is waited for
		_ = p.leash.Process.Kill()
		_ = p.leash.Wait()
		p.slack.Close()
		p.leash = nil
	}
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v: %v", s, err)
	}
}

// A replica is the program, serving as a process of its own.
type replica struct {
	*process
	addr string
	log  string // its output's file
}

// startReplica runs "cicosts serve" with this environment, on a port of its own unless an argument says otherwise, until the
// test ends.
func startReplica(t *testing.T, program string, env []string, args ...string) *replica {
	t.Helper()
	cmd := exec.Command(program, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = env
	r := &replica{log: filepath.Join(t.TempDir(), "log")}
	r.process = start(t, cmd, r.log)
	listening := regexp.MustCompile(`"msg":"listening","addr":"([^"]+)"`)
	waitFor(t, "the replica listens", func() error {
		out, err := os.ReadFile(r.log)
		if err != nil {
			return err
		}
		if m := listening.FindSubmatch(out); m != nil {
			r.addr = string(m[1])
			return nil
		}
		select {
		case <-r.ended:
			t.Fatalf("serve ended: %s", out)
		default:
		}
		return fmt.Errorf("%s", out)
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s logged beside its requests:\n%s", r.addr, r.unusual())
		}
	})
	return r
}

// setupLink waits for the link that a program prints on a database without users.
func (r *replica) setupLink(t *testing.T) (link string) {
	t.Helper()
	pattern := regexp.MustCompile(`(?m)^Create the first owner: (\S+)$`)
	waitFor(t, "a setup link", func() error {
		out, err := os.ReadFile(r.log)
		if err != nil {
			return err
		}
		m := pattern.FindSubmatch(out)
		if m == nil {
			return errors.New("none yet")
		}
		link = string(m[1])
		return nil
	})
	return link
}

// unusual is what a replica logged last, ordinary requests aside.
func (r *replica) unusual() []byte {
	out, err := os.ReadFile(r.log)
	if err != nil {
		return []byte(err.Error())
	}
	var failed, other [][]byte
	for line := range bytes.Lines(out) {
		switch {
		case !bytes.Contains(line, []byte(`"msg":"request"`)):
			other = append(other, line)
		case bytes.Contains(line, []byte(`"level":"ERROR"`)):
			failed = append(failed, line)
		}
	}
	return bytes.Join(append(other[max(0, len(other)-10):], failed[max(0, len(failed)-3):]...), nil)
}

// waitFor polls until nothing is wrong any more.
func waitFor(t *testing.T, what string, wrong func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		err := wrong()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s: %v", patience, what, err)
		}
	}
}
