// Package origin is the plain HTTP server behind proxies of functions: net/http with no logic.
package origin

import (
	"bytes"
	"net"
	"net/http"
	"strconv"

	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

// Serve answers on addr until the process ends.
func Serve(addr string) error {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return http.Serve(lis, Handler())
}

// Handler answers POST with the body it got, and GET with a payload of the size and the stamp that the query asks for,
// whatever the path is.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			get(w, r)
			return
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, wire.MaxMessage)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		write(w, body.Bytes())
	})
}

func get(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	size, errSize := strconv.ParseUint(query.Get("size"), 10, 16)
	stamp, errStamp := strconv.ParseUint(query.Get("stamp"), 10, 64)
	if errSize != nil || errStamp != nil || size < wire.MinPayload {
		http.Error(w, "a size and a stamp are asked for", http.StatusBadRequest)
		return
	}
	write(w, wire.NewPayload(int(size)).Stamp(stamp))
}

func write(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(body) // the client has gone if it fails
}
