package schema

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/parser"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// sources are .proto files below import paths. Files are named as imports name
// them: relative to an import path, with slashes.
//
// All files are loaded before any is compiled, because the compiler stops at the
// first import that is not there.
type sources struct {
	paths  []string // folders
	roots  []string // the files to compile
	parsed map[string]*ast.FileNode
}

// newSources finds the files to compile.
func newSources(files, importPaths []string) (*sources, error) {
	if len(files) == 0 {
		return nil, errors.New("no .proto files are given")
	}
	s := &sources{paths: importPaths, parsed: make(map[string]*ast.FileNode)}
	if len(importPaths) == 0 {
		for _, f := range files {
			if dir := filepath.Dir(f); !slices.Contains(s.paths, dir) {
				s.paths = append(s.paths, dir)
			}
		}
	}
	var errs []error
	for _, f := range files {
		name, err := s.name(f, len(importPaths) > 0)
		if err != nil {
			errs = append(errs, err)
		}
		s.roots = append(s.roots, name)
	}
	return s, errors.Join(errs...)
}

// name returns how imports name a file that is given by its path; below says that
// this may be one below an import path.
func (s *sources) name(file string, below bool) (string, error) {
	if name := filepath.ToSlash(filepath.Clean(file)); below && s.find(name) != "" {
		return name, nil
	}
	if !isFile(file) {
		if below {
			return "", fmt.Errorf("there is no file %s, as it is or below the import paths %s", file, s.listed())
		}
		return "", fmt.Errorf("there is no file %s", file)
	}
	for _, dir := range s.paths {
		name, ok := nameBelow(dir, file)
		if !ok {
			continue
		}
		if found := s.find(name); !sameFile(found, file) {
			return "", fmt.Errorf("%s is hidden by %s, which imports of %q find before it; change the import paths", file, found, name)
		}
		return name, nil
	}
	return "", fmt.Errorf("%s does not lie below one of the import paths %s", file, s.listed())
}

// nameBelow returns the name of a file below a folder, false if it lies elsewhere.
func nameBelow(dir, file string) (string, bool) {
	absDir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	absFile, err := filepath.Abs(file)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(absDir, absFile)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// find returns the path of the file that imports name so, "" if there is none.
func (s *sources) find(name string) string {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return ""
	}
	for _, dir := range s.paths {
		if path := filepath.Join(dir, filepath.FromSlash(name)); isFile(path) {
			return path
		}
	}
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func (s *sources) listed() string { return strings.Join(s.paths, ", ") }

// load parses the roots and all that they import.
func (s *sources) load(ctx context.Context) error {
	var found problems
	for queue := slices.Clone(s.roots); len(queue) > 0; queue = queue[1:] {
		if ctx.Err() != nil {
			return fmt.Errorf("read .proto files: %w", context.Cause(ctx))
		}
		name := queue[0]
		path := s.find(name)
		if s.parsed[name] != nil || path == "" { // a standard import
			continue
		}
		file, err := parse(name, path, &found)
		if err != nil {
			return err
		}
		s.parsed[name] = file
		for _, decl := range file.Decls {
			imported, ok := decl.(*ast.ImportNode)
			if !ok {
				continue
			}
			dep := imported.Name.AsString()
			if s.find(dep) == "" && standard(dep) == nil {
				found.add(reporter.Errorf(file.NodeInfo(imported.Name), "there is no file %q below the import paths %s", dep, s.listed()))
			}
			queue = append(queue, dep)
		}
	}
	return found.or(nil)
}

// parse parses one file. What is wrong in it is added to found.
func parse(name, path string, found *problems) (*ast.FileNode, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := parser.Parse(name, bytes.NewReader(b), reporter.NewHandler(found.reporter()))
	if file == nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return file, nil // err says no more than that something was found
}

// FindFileByPath implements protocompile.Resolver.
func (s *sources) FindFileByPath(name string) (protocompile.SearchResult, error) {
	if file := s.parsed[name]; file != nil {
		return protocompile.SearchResult{AST: file}, nil
	}
	if d := standard(name); d != nil {
		return protocompile.SearchResult{Desc: d}, nil
	}
	return protocompile.SearchResult{}, protoregistry.NotFound
}

// problems are what is wrong in sources.
type problems struct{ all []reporter.ErrorWithPos }

func (p *problems) add(err reporter.ErrorWithPos) { p.all = append(p.all, err) }

// reporter returns one that has everything found, instead of stopping at what is
// first.
func (p *problems) reporter() reporter.Reporter {
	return reporter.NewReporter(func(err reporter.ErrorWithPos) error {
		p.add(err)
		return nil
	}, nil)
}

// or returns all problems in their order in the sources, in which the compiler,
// being concurrent, does not find them; or err if there are none.
func (p *problems) or(err error) error {
	slices.SortStableFunc(p.all, func(a, b reporter.ErrorWithPos) int {
		x, y := a.GetPosition(), b.GetPosition()
		return cmp.Or(strings.Compare(x.Filename, y.Filename), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Col, y.Col))
	})
	if len(p.all) == 0 {
		return err
	}
	errs := make([]error, len(p.all))
	for i, e := range p.all {
		errs[i] = e
	}
	return errors.Join(errs...)
}
