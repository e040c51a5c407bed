package conf

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
)

// maxFileSize bounds a configuration file; one that is larger is not one.
const maxFileSize Size = 4 << 20

// Load reads and checks the configuration file at path. The Config is valid and
// belongs to the caller, who must not change it once others use it. Relative
// paths in the file are relative to its directory, and those in the Config can
// be opened as they are. The error is an Errors with every problem found;
// errors.Is sees through to what kept a file from being read, such as
// fs.ErrNotExist.
func Load(path string, opts ...Option) (*Config, error) {
	data, problem := read(path)
	if problem != nil {
		return nil, Errors{problem}
	}
	c, err := Parse(path, data, opts...)
	if err != nil {
		return nil, err
	}
	c.resolvePaths(filepath.Dir(path))
	return c, nil
}

// Parse is Load for a file's content. name stands for the file in messages, and
// for nothing else: relative paths stay as they are, relative to the working
// directory.
func Parse(name string, data []byte, opts ...Option) (*Config, error) {
	r := newReport(name)
	root := parseYAML(r, data)
	if root == nil {
		return nil, r.err()
	}
	c := Default()
	for _, set := range opts {
		set(c)
	}
	c.source = r.source
	decoder{r}.decode("", root, reflect.ValueOf(c).Elem())
	validate(r, c)
	if err := r.err(); err != nil {
		return nil, err
	}
	c.lowerKeys()
	return c, nil
}

// Option says what a file cannot.
type Option func(*Config)

// GoInterceptors are the names of interceptors that the program has in Go, which lists
// of a file may have beside those of Config.Interceptors.
func GoInterceptors(names ...string) Option {
	return func(c *Config) { c.goInterceptors = append(c.goInterceptors, names...) }
}

// WithGoInterceptors returns a copy of c whose lists of interceptors may have these
// names, too: to validate a Config that was built in Go, or loaded before they were
// known. The copy shares what c points to.
func (c *Config) WithGoInterceptors(names ...string) *Config {
	with := *c
	with.goInterceptors = slices.Clone(names)
	return &with
}

func read(path string) ([]byte, *Error) {
	if path == "" {
		return nil, &Error{Problem: "no configuration file is named", Hint: "give its path, such as conf/proxy.yaml"}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return nil, &Error{File: path, Problem: "is a directory", Hint: "name the file in it, such as proxy.yaml"}
	}
	data, err := io.ReadAll(io.LimitReader(file, int64(maxFileSize)+1))
	switch {
	case err != nil:
		return nil, unreadable(path, err)
	case len(data) > int(maxFileSize):
		return nil, &Error{File: path, Problem: "is larger than " + maxFileSize.String(), Hint: "check that it is the right file"}
	}
	return data, nil
}

func unreadable(path string, err error) *Error {
	e := &Error{File: path, Problem: "cannot be read: " + reason(err), Hint: "check the path", cause: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Problem, e.Hint = "does not exist", "check the path, or copy conf/proxy.yaml there"
	case errors.Is(err, fs.ErrPermission):
		e.Problem, e.Hint = "may not be read by this user", "check the permissions of the file and its directories"
	}
	return e
}

// reason returns what the system says without the path, which the message
// already has.
func reason(err error) string {
	var withPath *fs.PathError
	if errors.As(err, &withPath) {
		return withPath.Err.Error()
	}
	return err.Error()
}
