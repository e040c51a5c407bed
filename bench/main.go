// Command bench measures what kitexproxy costs, beside other proxies and beside no proxy at all.
//
//	go run . [flags]             measure; -help lists the flags
//	go run . -scaling [flags]    measure over connections, processors and many streams instead
//	go run . -attacks [flags]    measure what attacks do to others instead
//
// The same program is also each of the processes it needs: "bench backend", "bench load" and the other commands are for
// its own use. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kitexproxy/kitexproxy/bench/internal/attack"
	"github.com/kitexproxy/kitexproxy/bench/internal/backend"
	"github.com/kitexproxy/kitexproxy/bench/internal/decoding"
	"github.com/kitexproxy/kitexproxy/bench/internal/load"
	"github.com/kitexproxy/kitexproxy/bench/internal/mwitkow"
	"github.com/kitexproxy/kitexproxy/bench/internal/orders"
	"github.com/kitexproxy/kitexproxy/bench/internal/origin"
	"github.com/kitexproxy/kitexproxy/bench/internal/reverse"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/typed"
)

// commands are the program's parts; the first argument picks one, and run is meant if none does.
var commands = map[string]func(args []string) error{
	"run":     runMain,
	"backend": serverMain("backend", backend.Serve),
	"origin":  serverMain("origin", origin.Serve),
	"mwitkow": proxyMain("mwitkow", mwitkow.Serve),
	"typed":   typedMain,
	"decode":  proxyMain("decode", decoding.Serve),
	"orders":  proxyMain("orders", orders.Serve),
	"reverse": proxyMain("reverse", reverse.Serve),
	"load":    loadMain,
	"attack":  attackMain,
}

func main() { os.Exit(dispatch(os.Args[1:])) }

func dispatch(args []string) int {
	command := runMain
	if len(args) > 0 {
		if named, ok := commands[args[0]]; ok {
			command, args = named, args[1:]
		}
	}
	switch err := command(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// serverMain is a command that answers on an address.
func serverMain(name string, serve func(addr string) error) func(args []string) error {
	return func(args []string) error {
		flags := flag.NewFlagSet(name, flag.ContinueOnError)
		listen := flags.String("listen", "127.0.0.1:0", "address to serve on")
		if err := parse(flags, args); err != nil {
			return err
		}
		return serve(*listen)
	}
}

// proxyMain is a command that forwards what comes to an address to another one.
func proxyMain(name string, serve func(listen, backend string) error) func(args []string) error {
	return func(args []string) error {
		flags := flag.NewFlagSet(name, flag.ContinueOnError)
		listen := flags.String("listen", "127.0.0.1:0", "address to serve on")
		to := flags.String("backend", "", "address to forward to")
		if err := parse(flags, args); err != nil {
			return err
		}
		return serve(*listen, *to)
	}
}

func typedMain(args []string) error {
	flags := flag.NewFlagSet("typed", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to serve on")
	to := flags.String("backend", "", "address to forward to")
	kind := flags.String("filters", "read", "what filters do: read or change")
	if err := parse(flags, args); err != nil {
		return err
	}
	return typed.Serve(*listen, *to, *kind)
}

// loadMain prints its result as one line of JSON.
func loadMain(args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	var cfg load.Config
	name := flags.String("scenario", "unary-1k", "what to load")
	flags.StringVar(&cfg.Addr, "addr", "", "address to call")
	flags.StringVar(&cfg.Key, "key", "", "API key of gRPC calls, empty for none")
	flags.IntVar(&cfg.Proxy, "proxy", 0, "process group of the proxy, 0 for none")
	flags.IntVar(&cfg.Backend, "backend", 0, "process group of the backend, 0 for none")
	flags.DurationVar(&cfg.Warmup, "warmup", 500*time.Millisecond, "load before measuring")
	flags.DurationVar(&cfg.Duration, "duration", 3*time.Second, "time measured")
	if err := parse(flags, args); err != nil {
		return err
	}
	var err error
	if cfg.Scenario, err = scenario.ByName(*name); err != nil {
		return err
	}
	result, err := load.Run(context.Background(), cfg)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// attackMain attacks until SIGTERM, and then prints its result as one line of JSON.
func attackMain(args []string) error {
	flags := flag.NewFlagSet("attack", flag.ContinueOnError)
	var cfg attack.Config
	name := flags.String("attack", "", "what to do")
	flags.StringVar(&cfg.Addr, "addr", "", "address to attack, on the loopback interface")
	flags.IntVar(&cfg.Rate, "rate", 0, "frames a second, 0 for as many as there can be")
	flags.DurationVar(&cfg.Pause, "pause", attack.MinPause, "time before connecting again when cut off")
	flags.DurationVar(&cfg.Duration, "duration", time.Second, "the longest time it takes")
	if err := parse(flags, args); err != nil {
		return err
	}
	a, err := attack.ByName(*name)
	if err != nil {
		return err
	}
	if err := loopback(cfg.Addr); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return json.NewEncoder(os.Stdout).Encode(a.Run(ctx, cfg))
}

// loopback refuses addresses of other machines: attacks are for measuring, and for nobody else.
func loopback(addr string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	if !at.Addr().IsLoopback() {
		return fmt.Errorf("%s is no loopback address", addr)
	}
	return nil
}

// parse refuses arguments that are no flags: a forgotten dash would otherwise go unnoticed.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: unexpected argument %q", flags.Name(), flags.Arg(0))
	}
	return nil
}
