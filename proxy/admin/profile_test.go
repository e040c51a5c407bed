package admin

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProfiles(t *testing.T) {
	s := serve(t, Options{})
	for _, path := range []string{"heap", "goroutine", "profile?seconds=0.01"} {
		got := s.get(t, "/debug/pprof/"+path)
		require.Equal(t, 200, got.status, got.body)
		assert.Equal(t, "application/octet-stream", got.header.Get("Content-Type"))
		unzipped, err := gzip.NewReader(strings.NewReader(got.body))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, unzipped)
		assert.NoError(t, err)
	}
	assert.Contains(t, s.get(t, "/debug/pprof/goroutine?debug=2").body, "TestProfiles")
	assert.Contains(t, s.get(t, "/debug/pprof/trace?seconds=0.01").body, "go 1.")
}

func TestProfilesThatAreNone(t *testing.T) {
	s := serve(t, Options{})
	for path, status := range map[string]int{
		"heap?debug=7": 400, "heap?debug=x": 400, "nothing": 404, "cmdline": 404, "profile?seconds=x": 400,
		"profile?seconds=-1": 400, "profile?seconds=NaN": 400, "profile?seconds=301": 400, "trace?seconds=0": 400,
	} {
		assert.Equal(t, status, s.get(t, "/debug/pprof/"+path).status, path)
	}
}

func TestProfilesOneAtATime(t *testing.T) {
	s := serve(t, Options{})
	require.NoError(t, pprof.StartCPUProfile(io.Discard))
	defer pprof.StopCPUProfile()
	other := s.get(t, "/debug/pprof/profile?seconds=0.001")
	assert.Equal(t, 409, other.status)
	assert.Contains(t, other.body, "in use")
	assert.Empty(t, other.header.Get("Content-Disposition"))
}

func TestProfilesEndWithServe(t *testing.T) {
	s := serve(t, Options{})
	request := s.request(t, "GET", "/debug/pprof/profile?seconds=300")
	ended := make(chan error, 1)
	go func() { // ends with Serve
		resp, err := s.client.Do(request)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		ended <- err
	}()
	require.Eventually(t, func() bool {
		return strings.Contains(s.get(t, "/debug/pprof/goroutine?debug=2").body, "admin.pause(")
	}, safety, time.Millisecond)
	require.NoError(t, s.stop())
	assert.NoError(t, <-ended, "what there is of the profile is whole")
}

func TestProfilesAreNotForTheWholeProgram(t *testing.T) {
	_, pattern := http.DefaultServeMux.Handler(httptest.NewRequest("GET", "/debug/pprof/heap", nil))
	assert.Empty(t, pattern)
}

// deadlines notes the write deadline that a handler runs under.
type deadlines struct {
	httptest.ResponseRecorder
	write time.Time
	set   bool
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.write, d.set = at, true
	return nil
}

func TestOnlyWhatTakesTimeMayTakeTime(t *testing.T) {
	nothing := inTime(t.Context(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for path, bounded := range map[string]bool{
		"/healthz": true, "/metrics": true, "/debug/pprof/profile": false, "/debug/pprof/trace": false,
	} {
		d := new(deadlines)
		nothing.ServeHTTP(d, httptest.NewRequest("GET", path, nil))
		assert.True(t, d.set, "%s has the deadline of the request before it", path)
		assert.Equal(t, bounded, !d.write.IsZero(), path)
	}
}
