package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.." // of the repository

func readRoot(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// instruction is a line of a Dockerfile.
type instruction struct{ name, rest string }

func dockerfile(t *testing.T) []instruction {
	t.Helper()
	var all []instruction
	for line := range strings.Lines(readRoot(t, "cmd/cicosts/Dockerfile")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		all = append(all, instruction{name, strings.TrimSpace(rest)})
	}
	return all
}

// The image is built with the Go of go.mod and as make build does, runs as nobody in particular, and has settings that the
// program takes. No instruction of it needs a shell in the image.
func TestDockerfile(t *testing.T) {
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(readRoot(t, "go.mod"))[1]
	build := regexp.MustCompile(`go build (.*) -o \S+ (\S+)`)
	wantBuild := build.FindStringSubmatch(readRoot(t, "Makefile"))
	last := map[string]string{} // of the image, so since the last FROM
	var copied, env []string
	built := false
	for _, in := range dockerfile(t) {
		words := strings.Fields(in.rest)
		switch in.name {
		case "FROM":
			last, copied = map[string]string{}, nil
			if image, tag, _ := strings.Cut(words[0], ":"); image != "scratch" && (image != "golang" || tag != version) {
				t.Errorf("it builds on %s, go.mod wants %s", words[0], version)
			}
		case "COPY":
			if !strings.HasPrefix(words[0], "--from=") {
				for _, source := range words[:len(words)-1] {
					if _, err := os.Stat(filepath.Join(root, source)); err != nil {
						t.Error(err)
					}
				}
			}
			target := words[len(words)-1]
			if strings.HasSuffix(target, "/") {
				target += path.Base(words[len(words)-2])
			}
			copied = append(copied, target)
		case "RUN":
			if got := build.FindStringSubmatch(in.rest); got != nil {
				built = slices.Equal(got[1:], wantBuild[1:]) && strings.HasPrefix(in.rest, "CGO_ENABLED=0 ")
			}
		case "ENV":
			for _, word := range words {
				name, value, _ := strings.Cut(word, "=")
				env = append(env, name, value)
			}
		}
		last[in.name] = in.rest
	}
	if !built {
		t.Errorf("it does not build as make build does: %v", wantBuild)
	}
	if _, shell := last["RUN"]; shell || strings.HasPrefix(last["USER"], "0") || !regexp.MustCompile(`^\d+:\d+$`).MatchString(last["USER"]) {
		t.Errorf("the image runs a shell, or as %q", last["USER"])
	}
	var entry, command []string
	if json.Unmarshal([]byte(last["ENTRYPOINT"]), &entry) != nil || json.Unmarshal([]byte(last["CMD"]), &command) != nil || len(entry) != 1 || !slices.Contains(copied, entry[0]) {
		t.Fatalf("it starts %s %s, and has %v", last["ENTRYPOINT"], last["CMD"], copied)
	}
	if _, rest, err := findCommand(command); err != nil || len(rest) > 0 {
		t.Errorf("it runs %v: %v", command, err)
	}
	s, err := read(t, env)
	if err != nil || len(env) == 0 {
		t.Fatalf("its settings %v: %v", env, err)
	}
	for i := 0; i < len(env); i += 2 {
		if !slices.ContainsFunc(settingList, func(s setting) bool { return s.env == env[i] }) {
			t.Errorf("%s is no setting", env[i])
		}
	}
	if _, port, err := net.SplitHostPort(s.addr); err != nil || port != last["EXPOSE"] {
		t.Errorf("it listens at %s and exposes %s", s.addr, last["EXPOSE"])
	}
	if dir := filepath.Dir(strings.TrimPrefix(s.databaseURL, "sqlite:")); dir != last["VOLUME"] || !slices.Contains(copied, dir) {
		t.Errorf("the database is in %s, the volume is %s, there is %v", dir, last["VOLUME"], copied)
	}
}

// What .dockerignore lets through is enough for a build, and has no database, secret or test in it.
func TestDockerContext(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the go command")
	}
	context := t.TempDir()
	names := copyContext(t, context)
	for _, name := range names {
		if regexp.MustCompile(`\.(db|secret)|_test\.go$|testdata|^\.`).MatchString(name) {
			t.Errorf("%s gets into the image's build", name)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/cicosts")
	cmd.Dir = context
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "cicosts/cmd/cicosts\n") {
		t.Errorf("of the %d files no program can be built: %v\n%s", len(names), err, out)
	}
}

// copyContext copies into dir what a build of the image is sent, and returns its names.
func copyContext(t *testing.T, dir string) (names []string) {
	t.Helper()
	ignored := dockerIgnore(t)
	files := os.DirFS(root)
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == ".git" || name == ".build" {
			return fs.SkipDir
		}
		if d.IsDir() || ignored(name) {
			return nil
		}
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		names = append(names, name)
		if err := os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), raw, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// dockerIgnore reads the file as Docker does, so far as its patterns go: the last that fits a file, or a folder that it
// is in, decides.
func dockerIgnore(t *testing.T) (ignored func(name string) bool) {
	t.Helper()
	type pattern struct {
		re   *regexp.Regexp
		keep bool
	}
	var patterns []pattern
	for line := range strings.Lines(readRoot(t, ".dockerignore")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		glob, keep := strings.CutPrefix(line, "!")
		re := strings.ReplaceAll(regexp.QuoteMeta(glob), `\*\*/`, `(.*/)?`)
		re = strings.ReplaceAll(re, `\*`, `[^/]*`)
		patterns = append(patterns, pattern{regexp.MustCompile(fmt.Sprintf(`^%s(/.*)?$`, re)), keep})
	}
	return func(name string) bool {
		out := false
		for _, p := range patterns {
			if p.re.MatchString(name) {
				out = !p.keep
			}
		}
		return out
	}
}
