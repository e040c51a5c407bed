package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/kitexproxy/kitexproxy/conf/follow"
)

// maxFile bounds files, in bytes; one that is larger is not the right one.
const maxFile = 4 << 20

// watched is a file that is read again when it changes. It is for one goroutine at a
// time.
type watched struct {
	path string
	log  *slog.Logger
	take func(data []byte) error // an error leaves what was taken before in force
	seen string                  // what was found last: a hash, or an error's text
}

// openWatched has take get the content of a file, and returns its error.
func openWatched(path string, log *slog.Logger, take func(data []byte) error) (*watched, error) {
	w := &watched{path: path, log: log, take: take}
	_, err := w.read()
	return w, err
}

// start has take get the content of the file whenever that changes, until stop is
// called, which waits for take. Errors are logged, each once.
func (w *watched) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		follow.File(ctx, w.path, w.readAgain)
	}()
	return func() { cancel(); <-ended }
}

func (w *watched) readAgain() {
	switch changed, err := w.read(); {
	case err != nil:
		w.log.Error("a changed file of credentials cannot be used, what it had before stays in force", "error", err)
	case changed:
		w.log.Info("a file of credentials has been read again", "file", w.path)
	}
}

// read takes what the file has, unless it is what was found the last time.
func (w *watched) read() (changed bool, err error) {
	data, err := readFile(w.path)
	found := ""
	if err != nil {
		found = err.Error()
	} else {
		sum := sha256.Sum256(data)
		found = string(sum[:])
	}
	if found == w.seen {
		return false, nil
	}
	w.seen = found
	if err == nil {
		err = w.take(data)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", w.path, err)
	}
	return true, nil
}

// readFile returns the content of a regular file: to open others can block. Its errors
// do not name the file.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it is larger than %d MiB; check that it is the right file", maxFile>>20)
	}
	return data, withoutPath(err)
}

// withoutPath leaves out the file that an error names, as messages have it already.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}
