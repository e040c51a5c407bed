package schema

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/descriptorpb"
)

// What protodesc does with a file takes time and memory in proportion to its
// size, but for the following.
const (
	// maxName is the longest full name in bytes. Looking one up takes time that
	// grows with the square of its length.
	maxName = 2 << 10
	// maxNames bounds the bytes of all full names of a schema: each one repeats
	// those of all that it is nested in.
	maxNames = 256 << 20
	// maxSteps bounds how often an import is looked at to find what files get by
	// the public imports of others: that is done once for each way to a file, of
	// which there may be 2 to the power of the number of files.
	maxSteps = 10_000_000
	// maxDepth is the longest chain of imports. Each file in it takes some stack.
	maxDepth = 1_000
	// maxFaults is how much is noted of what is wrong: an import of two bytes may
	// be wrong, and each makes an error.
	maxFaults = 10_000
)

// protodescTests is where protodesc takes the edition of a file on trust: with
// one that it does not know, it ends the process (os.Exit).
const protodescTests = "cmd/protoc-gen-go/testdata/"

var errNames = fmt.Errorf("its names, and those of the files before, are longer than %d bytes in all", maxNames)

// check refuses a file that protodesc must not be given.
func (l *linker) check(p *descriptorpb.FileDescriptorProto) error {
	if p.GetSyntax() == "editions" && strings.HasPrefix(p.GetName(), protodescTests) {
		return errors.New("there are no editions in a folder of that name")
	}
	if len(p.GetPackage()) > maxName {
		return errLong(p.GetPackage())
	}
	w := walk{names: l.names}
	w.enums(len(p.GetPackage()), p.GetEnumType())
	w.messages(len(p.GetPackage()), p.GetMessageType())
	w.fields(len(p.GetPackage()), p.GetExtension())
	for _, s := range p.GetService() {
		n := w.name(len(p.GetPackage()), s.GetName())
		for _, m := range s.GetMethod() {
			w.name(n, m.GetName())
			w.reference(m.GetInputType())
			w.reference(m.GetOutputType())
		}
	}
	l.names = w.names
	return w.err
}

// walk adds up the full names in a file. Its methods take the length of the
// enclosing one, in bytes.
type walk struct {
	names int
	err   error // the first thing that is wrong
}

func (w *walk) messages(scope int, ms []*descriptorpb.DescriptorProto) {
	for _, m := range ms {
		if w.err != nil {
			return
		}
		n := w.name(scope, m.GetName())
		w.fields(n, m.GetField())
		w.fields(n, m.GetExtension())
		for _, o := range m.GetOneofDecl() {
			w.name(n, o.GetName())
		}
		w.enums(n, m.GetEnumType())
		w.messages(n, m.GetNestedType())
	}
}

func (w *walk) fields(scope int, fs []*descriptorpb.FieldDescriptorProto) {
	for _, f := range fs {
		w.name(scope, f.GetName())
		w.reference(f.GetTypeName())
		w.reference(f.GetExtendee())
	}
}

func (w *walk) enums(scope int, es []*descriptorpb.EnumDescriptorProto) {
	for _, e := range es {
		w.name(scope, e.GetName())
		for _, v := range e.GetValue() {
			w.name(scope, v.GetName()) // values are named beside their enum
		}
	}
}

// name takes a full name into account, and returns its length.
func (w *walk) name(scope int, name string) int {
	n := scope + len(".") + len(name)
	w.names += n
	if n > maxName {
		w.fail(errLong(name))
	}
	if w.names > maxNames {
		w.fail(errNames)
	}
	return n
}

// reference looks at a name that is not declared here.
func (w *walk) reference(name string) {
	if len(name) > maxName {
		w.fail(errLong(name))
	}
}

func (w *walk) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func errLong(name string) error {
	return fmt.Errorf("the full name of %s is longer than %d bytes", clip(name), maxName)
}

// countSteps bounds what protodesc does about the imports of a file, which are
// linked.
func (l *linker) countSteps(p *descriptorpb.FileDescriptorProto) error {
	own := len(p.GetDependency())
	for _, dep := range p.GetDependency() {
		l.spent += l.steps[dep]
	}
	for _, i := range p.GetPublicDependency() {
		if 0 <= i && int(i) < len(p.GetDependency()) { // protodesc refuses others
			own += l.steps[p.GetDependency()[i]]
		}
	}
	if l.spent > maxSteps {
		return errors.New("too many ways lead to the files that its public imports bring along")
	}
	l.steps[p.GetName()] = own
	return nil
}

// clip makes text that a peer has chosen fit for a log.
func clip(s string) string {
	const long = 300 // bytes
	tail := ""
	if len(s) > long {
		s, tail = s[:long], "..."
	}
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r): // those that do not print, too
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return utf8.RuneError
	}, s) + tail
}
