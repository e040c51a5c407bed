package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kitexproxy/kitexproxy/conf"
)

// flags are the settings that several commands take. Those that are given beat
// the configuration.
type flags struct {
	config      string
	listen      []string
	httpListen  []string
	admin       string
	backend     string
	demoBackend string
	logLevel    string
	logFormat   string
	shutdown    *conf.Duration
}

func (f *flags) addConfig(cmd *cobra.Command, help string) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", help)
}

func (f *flags) addListen(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.listen, "listen", nil,
		"`address` to take calls at, instead of the configured ones; may be repeated")
}

func (f *flags) addHTTP(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.httpListen, "http-listen", nil,
		"`address` to take HTTP requests at, instead of the configured ones; may be repeated")
	cmd.Flags().StringVar(&f.admin, "admin", "", "`address` of health, metrics and profiles, instead of the configured one")
}

func (f *flags) addBackend(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.backend, "backend", "",
		"`address` that every call goes to, instead of the configured clusters and routes")
}

func (f *flags) addDemoBackend(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.demoBackend, "demo-backend", "",
		"`address` for the demo backend to listen on (default 127.0.0.1:9000)")
}

// addLog adds the flags of logging; without a level the configured one holds.
func (f *flags) addLog(cmd *cobra.Command, level string) {
	cmd.Flags().StringVar(&f.logLevel, "log-level", level, "least severe `level` to log: debug, info, warn or error")
	cmd.Flags().StringVar(&f.logFormat, "log-format", "", "`format` of the log: text or json")
}

func (f *flags) addShutdown(cmd *cobra.Command) {
	cmd.Flags().Var(durationFlag{&f.shutdown}, "shutdown-timeout",
		"how long calls may go on after SIGTERM, such as 10s")
}

// durationFlag is a conf.Duration that may be left out.
type durationFlag struct{ target **conf.Duration }

func (d durationFlag) String() string {
	if d.target == nil || *d.target == nil {
		return ""
	}
	return (*d.target).String()
}

func (d durationFlag) Set(text string) error {
	parsed := new(conf.Duration)
	if err := parsed.UnmarshalText([]byte(text)); err != nil {
		return err
	}
	*d.target = parsed
	return nil
}

func (durationFlag) Type() string { return "duration" }

// apply puts the flags into cfg and checks the result. Problems with what a
// flag says are reported under its name.
func (f *flags) apply(cfg *conf.Config) error {
	named := map[string]string{} // flag by the beginning of the field
	if len(f.listen) > 0 {
		cfg.Listeners = nil
		for _, address := range f.listen {
			cfg.Listeners = append(cfg.Listeners, conf.Listener{Address: address})
		}
		named["listeners"] = "--listen"
	}
	if len(f.httpListen) > 0 {
		if cfg.HTTP == nil {
			return errors.New("--http-listen: there is nothing to answer with; give a file with a gateway or functions under http")
		}
		cfg.HTTP.Listeners = nil
		for _, address := range f.httpListen {
			cfg.HTTP.Listeners = append(cfg.HTTP.Listeners, conf.HTTPListener{Address: address})
		}
		named["http.listeners"] = "--http-listen"
	}
	if f.admin != "" {
		cfg.Admin = &conf.Admin{Address: f.admin}
		named["admin.address"] = "--admin"
	}
	if f.backend != "" {
		setBackend(cfg, f.backend)
		named["clusters"] = "--backend"
	}
	if f.logLevel != "" {
		cfg.Log.Level = f.logLevel
		named["log.level"] = "--log-level"
	}
	if f.logFormat != "" {
		cfg.Log.Format = f.logFormat
		named["log.format"] = "--log-format"
	}
	if f.shutdown != nil {
		cfg.Timeouts.Shutdown = *f.shutdown
		named["timeouts.shutdown"] = "--shutdown-timeout"
	}
	return nameFlags(cfg.Validate(), named)
}

// setBackend sends every call to one address. Its mode asks the filters of the
// program, and costs what mode: frame does for methods without any.
func setBackend(cfg *conf.Config, address string) {
	const name = "backend"
	cfg.Clusters = map[string]*conf.Cluster{
		name: {Instances: []string{address}, Connections: conf.DefaultConnections},
	}
	cfg.Routes = nil
	cfg.Default = &conf.Action{Cluster: name, Mode: conf.ModeStruct, Undecodable: conf.UndecodableReject}
}

// nameFlags puts the name of a flag where a problem is with a field that it
// has set.
func nameFlags(err error, named map[string]string) error {
	var problems conf.Errors
	if !errors.As(err, &problems) {
		return err
	}
	problems = slices.Clone(problems)
	for i, problem := range problems {
		for field, flag := range named {
			if strings.HasPrefix(problem.Field, field) {
				renamed := *problem
				renamed.Field = flag
				problems[i] = &renamed
			}
		}
	}
	return problems
}
