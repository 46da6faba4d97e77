package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// program is what a run of the program takes from its surroundings, so that tests can run all of it.
type program struct {
	args     []string
	env      func(name string) (string, bool)
	in       io.Reader
	out, err io.Writer
	terminal bool // err is a terminal
}

// usageError is a command line or setting that cannot be understood: exit code 2.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func badUsage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// command is one of the program's commands.
type command struct {
	name  string // with its second word, if it has one
	usage string // what stands behind the name: a flag is known by being in it
	args  int    // how many arguments that are no flags
	does  string
	run   func(ctx context.Context, c *call) error
}

// call is one use of a command.
type call struct {
	program
	settings settings
	flags    *flag.FlagSet
	rest     []string // arguments that are no flags
}

var commands = []command{
	{"serve", "", 0, "serves pages and API until SIGTERM or SIGINT", serve},
	{"user add", "--email E --account NAME [--role owner|admin|member|viewer] --password-stdin", 0, "creates a user, and the account when new", userAdd},
	{"user password", "--email E --password-stdin", 0, "sets a forgotten password and ends the user's sessions", userPassword},
	{"key list", "[--account NAME]", 0, "lists the keys, without their texts", keyList},
	{"key revoke", "KEY_ID", 1, "revokes a key; - reads ids or texts of keys from standard input, one a line", keyRevoke},
	{"import", "FILE --account NAME", 1, "imports a GitHub billing usage report; - reads standard input", importCommand},
	{"migrate up", "", 0, "brings the database's schema up to date", migrateUp},
	{"migrate status", "", 0, "lists the migrations and when each was applied", migrateStatus},
	{"doctor", "", 0, "checks what the promises rest on and says what to change; changes nothing", doctor},
	{"version", "", 0, "prints the version", version},
}

// execute runs the program and returns its exit code: 0, 1 for a failure, 2 for a command line or setting that cannot be
// understood. Either failure is one line on standard error.
func execute(ctx context.Context, p program) int {
	err := p.dispatch(ctx)
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[printedError](err); !ok {
		fmt.Fprint(p.err, failureLine(err))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// printedError is a failure whose line the command itself has printed.
type printedError struct{ error }

func (e printedError) Unwrap() error { return e.error }

// failureLine is what standard error says of a failure.
func failureLine(err error) string { return "cicosts: " + hideKeys(oneLine(err.Error())) + "\n" }

func (p program) dispatch(ctx context.Context) error {
	if len(p.args) > 0 && (p.args[0] == "help" || p.args[0] == "--help" || p.args[0] == "-h") {
		p.help()
		return nil
	}
	// Flags may stand before the command, so its words are the first arguments that are no flags.
	c := &call{program: p, flags: flag.NewFlagSet("cicosts", flag.ContinueOnError)}
	c.flags.SetOutput(io.Discard)
	values := addFlags(c.flags)
	rest, err := parsePermuted(c.flags, p.args)
	if errors.Is(err, flag.ErrHelp) {
		p.help()
		return nil
	}
	if err != nil {
		return err
	}
	cmd, rest, err := findCommand(rest)
	if err != nil {
		return err
	}
	c.rest = rest
	if err := c.checkArguments(cmd); err != nil {
		return err
	}
	if c.settings, err = readSettings(values, c.flags, p.env, p.terminal); err != nil {
		return err
	}
	return cmd.run(ctx, c)
}

// parsePermuted parses flags wherever they stand; the flag package alone would
// stop at the first other argument.
func parsePermuted(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		before := args
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			i := len(before) - len(flags.Args())
			if i > 0 && !strings.HasPrefix(err.Error(), "bad flag syntax") { // else it is not taken off the arguments
				i--
			}
			return nil, badFlag(flags, before[i])
		}
		args = flags.Args()
		if len(args) == 0 {
			return rest, nil
		}
		if used := len(before) - len(args); used > 0 && before[used-1] == "--" {
			return append(rest, args...), nil
		}
		rest = append(rest, args[0])
		args = args[1:]
	}
}

// badFlag says what is wrong with an argument that the flag package refuses.
// Its own errors would repeat a password, as of -pPASSWORD.
func badFlag(flags *flag.FlagSet, arg string) error {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	known := flags.Lookup(name)
	switch {
	case known != nil && hasValue: // all others take any value
		return badUsage("--%s takes no value but true or false", name)
	case known != nil:
		return badUsage("--%s needs an argument", name)
	case strings.HasPrefix(arg, "--") && word.MatchString(name) && harmless(name):
		return badUsage("unknown flag --%s; want one of: %s", name, flagNames(flags))
	}
	return badUsage("unknown flag; want one of: %s", flagNames(flags))
}

func flagNames(flags *flag.FlagSet) string {
	var names []string
	flags.VisitAll(func(f *flag.Flag) { names = append(names, "--"+f.Name) })
	return strings.Join(names, ", ")
}

func findCommand(words []string) (command, []string, error) {
	var names []string
	for _, cmd := range commands {
		names = append(names, cmd.name)
		n := len(strings.Fields(cmd.name))
		if len(words) >= n && strings.Join(words[:n], " ") == cmd.name {
			return cmd, words[n:], nil
		}
	}
	given := "no command"
	if len(words) > 0 {
		given = "unknown command" + shownCommand(words, names)
	}
	return command{}, nil, badUsage("%s; want one of: %s", given, strings.Join(names, ", "))
}

// shownCommand quotes an unknown command, with its second word if its first is
// one that takes a second. It returns "" if they may be a password.
func shownCommand(words, names []string) string {
	if !word.MatchString(words[0]) || !harmless(words[0]) {
		return ""
	}
	takesSecond := slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, words[0]+" ") })
	if len(words) > 1 && takesSecond && word.MatchString(words[1]) && harmless(words[1]) {
		return shown(words[0] + " " + words[1])
	}
	return shown(words[0])
}

// checkArguments refuses flags and arguments that the command has no use for: a flag that is ignored misleads.
func (c *call) checkArguments(cmd command) error {
	var err error
	c.flags.Visit(func(f *flag.Flag) {
		if !isSetting(f.Name) && !strings.Contains(cmd.usage, "--"+f.Name) && err == nil {
			err = badUsage("%s takes no flag --%s; want: cicosts %s %s", cmd.name, f.Name, cmd.name, cmd.usage)
		}
	})
	if err != nil {
		return err
	}
	switch {
	case len(c.rest) < cmd.args:
		return badUsage("%s wants an argument: cicosts %s %s", cmd.name, cmd.name, cmd.usage)
	case len(c.rest) > cmd.args:
		extra := ""
		if !strings.Contains(cmd.usage, "--password-stdin") { // else it may be a password, however short
			extra = shown(c.rest[cmd.args])
		}
		return badUsage("unexpected argument%s; want: cicosts %s", extra, strings.TrimSpace(cmd.name+" "+cmd.usage))
	}
	return nil
}

func (p program) help() {
	fmt.Fprintln(p.out, "CICosts API keys.\n\nCommands:")
	for _, cmd := range commands {
		fmt.Fprintf(p.out, "  cicosts %s\n      %s\n", strings.TrimSpace(cmd.name+" "+cmd.usage), cmd.does)
	}
	fmt.Fprintln(p.out, "\nSettings, as flags of every command or in the environment (flags win):")
	for _, s := range settingList {
		name := s.env
		if s.flag != "" {
			name += ", --" + s.flag
		}
		fmt.Fprintf(p.out, "  %s\n      %s (default: %s)\n", name, s.meaning, s.defaults)
	}
}
