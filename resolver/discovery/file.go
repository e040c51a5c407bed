package discovery

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cloudwego/kitex/pkg/discovery"

	"github.com/kitexproxy/kitexproxy/conf/follow"
)

// maxFileSize bounds a file of instances; one that is larger is not one.
const maxFileSize = 4 << 20

func openFile(path string) Source {
	return Source{
		Name: fmt.Sprintf("file %q", path),
		Resolver: resolver("file", func(context.Context) ([]discovery.Instance, error) {
			return readList(path)
		}),
		Service: path,
		Notify:  func(ctx context.Context, changed func()) { follow.File(ctx, path, changed) },
	}
}

// CheckFile returns why a file has no instances at present. That keeps no proxy from
// starting: the file may come to be, or be mended.
func CheckFile(path string) error {
	_, err := readList(path)
	return err
}

func readList(path string) ([]discovery.Instance, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parseList(path, data)
}

// readFile returns the content of a regular file: to open others can block.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err == nil && len(data) > maxFileSize {
		err = fmt.Errorf("%s: is larger than %d MiB; check that it is the right file", path, maxFileSize>>20)
	}
	return data, err
}

// repeat calls follow again and again, with a pause between two calls, until ctx ends.
func repeat(ctx context.Context, pause time.Duration, follow func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			follow()
			timer.Reset(pause)
		}
	}
}
