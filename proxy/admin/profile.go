package admin

import (
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"time"
)

// profiles is where go tool pprof looks for them.
//
// They are made here, by the runtime's own packages, since importing net/http/pprof
// would put them on http.DefaultServeMux as well, which a program that has the proxy
// inside may show to everybody.
const profiles = "/debug/pprof/"

// maxProfile is how long a profile may be taken.
const maxProfile = 5 * time.Minute

func (a *Admin) addProfiles() {
	a.add(profiles+"profile", "processor time, for ?seconds=30", during(30*time.Second, pprofStart))
	a.add(profiles+"trace", "for go tool trace, for ?seconds=1", during(time.Second, traceStart))
	for _, p := range pprof.Profiles() {
		a.pages = append(a.pages, page{profiles + p.Name(), "for go tool pprof, or as text with ?debug=1"})
	}
	a.mux.HandleFunc(profiles+"{name...}", lookup)
	a.mux.HandleFunc(profiles+"{$}", a.index)
}

// lookup answers with a profile of how things are.
func lookup(w http.ResponseWriter, r *http.Request) {
	p := pprof.Lookup(r.PathValue("name"))
	if p == nil {
		http.Error(w, "there is no such profile; "+profiles+" lists those there are", http.StatusNotFound)
		return
	}
	debug, err := strconv.Atoi(valueOr(r, "debug", "0"))
	if err != nil || debug < 0 || debug > 2 {
		http.Error(w, "debug must be 0, 1 or 2", http.StatusBadRequest)
		return
	}
	if debug > 0 {
		text(w)
	} else {
		binary(w, p.Name())
	}
	_ = p.WriteTo(w, debug) // whoever asked may be gone
}

// recorder starts to record into w. It returns what stops it, or an error while
// somebody else records.
type recorder func(w http.ResponseWriter) (stop func(), err error)

func pprofStart(w http.ResponseWriter) (func(), error) {
	return pprof.StopCPUProfile, pprof.StartCPUProfile(binary(w, "profile"))
}

func traceStart(w http.ResponseWriter) (func(), error) {
	return trace.Stop, trace.Start(binary(w, "trace"))
}

// during answers with what is recorded for as many seconds as are asked for, or until
// whoever asked is gone.
func during(usual time.Duration, start recorder) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seconds, err := strconv.ParseFloat(valueOr(r, "seconds", fmt.Sprint(usual.Seconds())), 64)
		if err != nil || !(seconds > 0 && seconds <= maxProfile.Seconds()) {
			http.Error(w, fmt.Sprintf("seconds must be a number above 0, up to %v", maxProfile.Seconds()), http.StatusBadRequest)
			return
		}
		stop, err := start(w)
		if err != nil {
			w.Header().Del("Content-Disposition")
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		defer stop()
		pause(r.Context(), time.Duration(seconds*float64(time.Second)))
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func binary(w http.ResponseWriter, name string) http.ResponseWriter {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename=`+strconv.Quote(name))
	return w
}

// valueOr returns a value of the query, or another one if it is not there.
func valueOr(r *http.Request, key, other string) string {
	if v := r.URL.Query().Get(key); v != "" {
		return v
	}
	return other
}

// takesTime reports whether a request may take longer than others to be answered.
func takesTime(r *http.Request) bool {
	return isGRPC(r) || strings.HasPrefix(r.URL.Path, profiles)
}
