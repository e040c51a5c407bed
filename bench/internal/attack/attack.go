// Package attack is one hostile client: it does one thing that HTTP/2 lets a client do to a server, as fast as it can or
// at a given rate, on one connection at a time. What it does to others is for the loader beside it to see.
package attack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/bench/internal/stats"
)

const (
	// maxConns bounds an attacker that is cut off again and again, and MinPause how often.
	maxConns = 3000
	// MinPause is the least time between two connections.
	MinPause = 10 * time.Millisecond
)

// Attack is one thing to do to a server.
type Attack struct {
	Name  string
	About string // what is sent, for the reader of the figures

	settings []http2.Setting     // the client's own
	bare     bool                // without preface and SETTINGS: what run sends comes first
	deaf     bool                // never reads what the server answers
	run      func(c *conn) error // sends until it fails; nil means that all is sent, and the connection is held
}

// Config says whom to attack, and how hard.
type Config struct {
	Addr     string
	Rate     int           // frames a second; 0 is as many as there can be
	Pause    time.Duration // before connecting again; MinPause if that is more
	Duration time.Duration // bounds the attack; the end of the context ends it earlier
}

// Result is what became of the attacker.
type Result struct {
	Connections int            `json:"connections"`
	Seconds     float64        `json:"seconds"`
	Frames      uint64         `json:"frames"`
	Bytes       uint64         `json:"bytes"`
	Ends        []End          `json:"ends,omitempty"`   // how the server ended connections, the most frequent first
	Resets      map[string]int `json:"resets,omitempty"` // streams that the server ended with RST_STREAM, by code
	GoAway      string         `json:"goaway,omitempty"` // what the server said on the connection that was open at the end
	Stalled     bool           `json:"stalled,omitempty"`
	Failure     string         `json:"failure,omitempty"` // why there was no connection, at last
}

// End is a way in which the server cut the attacker off.
type End struct {
	How    string `json:"how"`
	Times  int    `json:"times"`
	Frames uint64 `json:"frames"` // written until then, what the server had not yet read included: the median
	Bytes  uint64 `json:"bytes"`
}

// FramesPerSecond is what the attacker got rid of.
func (r Result) FramesPerSecond() float64 {
	if r.Seconds == 0 {
		return 0
	}
	return float64(r.Frames) / r.Seconds
}

// String says whether and how the attacker was cut off.
func (r Result) String() string {
	var parts []string
	for _, e := range r.Ends {
		parts = append(parts, fmt.Sprintf("%d x %s after %d frames, %s", e.Times, e.How, e.Frames, size(e.Bytes)))
	}
	if len(parts) == 0 {
		parts = append(parts, "no")
	}
	if r.GoAway != "" {
		parts = append(parts, r.GoAway+" on the last, still open")
	}
	if r.Stalled {
		parts = append(parts, "not read any more")
	}
	if r.Failure != "" {
		parts = append(parts, r.Failure)
	}
	for _, code := range slices.Sorted(maps.Keys(r.Resets)) {
		parts = append(parts, fmt.Sprintf("%d x RST_STREAM %s", r.Resets[code], code))
	}
	return strings.Join(parts, "; ")
}

func size(bytes uint64) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	default:
		return fmt.Sprintf("%d B", bytes)
	}
}

// Run attacks until cfg.Duration is over or ctx ends, and connects anew when it is cut off.
func (a Attack) Run(ctx context.Context, cfg Config) Result {
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration)
	defer cancel()
	var (
		start = time.Now()
		pace  = newPacer(cfg.Rate)
		res   = Result{Resets: map[string]int{}}
		ends  = map[string][]*conn{}
	)
	for ctx.Err() == nil && res.Connections < maxConns {
		c, err := dial(ctx, cfg.Addr, pace)
		if err != nil && time.Since(start) < cfg.Duration { // the end of the time may come while dialling
			res.Failure = fmt.Sprintf("no connection: %v", err)
		}
		if err != nil {
			pause(ctx, max(cfg.Pause, MinPause))
			continue
		}
		res.Failure = ""
		res.Connections++
		how := a.attack(c)
		res.add(c)
		if how == "" { // the end of the attack
			res.GoAway, res.Stalled = c.goAway, c.stalled
			break
		}
		ends[how] = append(ends[how], c)
		pause(ctx, max(cfg.Pause, MinPause))
	}
	res.Seconds = time.Since(start).Seconds()
	res.sum(ends)
	return res
}

// attack uses c up and leaves nobody that reads from it, and says how the server ended it; nothing if the server did not.
func (a Attack) attack(c *conn) (how string) {
	reading := !a.deaf
	if reading {
		go c.read() // ends with the connection
	}
	defer func() { c.close(reading) }()
	err := a.handshake(c)
	if err == nil {
		err = a.run(c)
	}
	if err == nil {
		err = c.hold()
	}
	if c.ctx.Err() != nil {
		return ""
	}
	if a.deaf {
		reading = true
		go c.read() // what the server said before it closed
	}
	return c.ending(err)
}

func (a Attack) handshake(c *conn) error {
	if a.bare {
		return nil
	}
	c.out.Buffer.WriteString(http2.ClientPreface)
	if err := c.framer.WriteSettings(a.settings...); err != nil {
		return err
	}
	return c.flush()
}

func (r *Result) add(c *conn) {
	r.Frames += c.frames
	r.Bytes += c.bytes
	for code, n := range c.resets {
		r.Resets[code] += n
	}
}

func (r *Result) sum(ends map[string][]*conn) {
	for how, conns := range ends {
		var frames, bytes []uint64
		for _, c := range conns {
			frames, bytes = append(frames, c.frames), append(bytes, c.bytes)
		}
		slices.Sort(frames)
		slices.Sort(bytes)
		r.Ends = append(r.Ends, End{
			How: how, Times: len(conns),
			Frames: stats.Percentile(frames, 50), Bytes: stats.Percentile(bytes, 50),
		})
	}
	slices.SortFunc(r.Ends, func(a, b End) int {
		return cmp.Or(cmp.Compare(b.Times, a.Times), strings.Compare(a.How, b.How))
	})
}

// ByName finds an attack; its error lists the names there are.
func ByName(name string) (Attack, error) {
	for _, a := range All {
		if a.Name == name {
			return a, nil
		}
	}
	return Attack{}, fmt.Errorf("no attack %q; there are %s", name, strings.Join(Names(), ", "))
}

// Names are the names of all attacks.
func Names() []string {
	names := make([]string, len(All))
	for i, a := range All {
		names[i] = a.Name
	}
	return names
}

var errCut = errors.New("the server has ended the connection")

// pause returns early only when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
