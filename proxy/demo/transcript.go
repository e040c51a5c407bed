package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Play makes the demo's calls at address, where a proxy with a demo backend
// behind it listens that leaves them as they are, and writes a transcript to out.
// It returns nil if everything arrived as it was sent; otherwise the transcript
// says what did not.
func Play(ctx context.Context, out io.Writer, address string) error {
	c, err := newClient(address)
	if err != nil {
		return err
	}
	defer c.close()
	return c.playAll(ctx, out, 1, scenes(), "as sent")
}

// playAll plays scenes, the first of which has a number, and writes their
// transcript. as tells how everything should arrive.
func (c *echoClient) playAll(ctx context.Context, out io.Writer, number int, all []scene, as string) error {
	var differing []string
	for i, s := range all {
		r := c.play(ctx, s)
		if err := errors.Join(ctx.Err(), c.dialer.failure()); err != nil {
			return err
		}
		different := differences(s.want(), r.got)
		if s.by != "" {
			different = append(different, backendDifferences(s.want(), r.got)...)
		}
		different = append(different, logDifferences(s.logged, r.got.logged)...)
		if len(different) > 0 {
			differing = append(differing, fmt.Sprintf("%q", s.title))
		}
		if _, err := io.WriteString(out, transcript(number+i, s, r, as, different)); err != nil {
			return fmt.Errorf("write the transcript: %w", err)
		}
	}
	if len(differing) > 0 {
		return fmt.Errorf("%d of %d calls did not arrive %s: %s", len(differing), len(all), as, strings.Join(differing, ", "))
	}
	_, err := fmt.Fprintf(out, "%d of %d calls arrived %s\n", len(all), len(all), as)
	return err
}

// transcript returns what happened in a scene, for people to read.
func transcript(number int, s scene, r *record, as string, different []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d. %s\n", number, s.title)
	fmt.Fprintf(&b, "   %s\n", methodName(s.method))
	for text := range strings.Lines(s.by) {
		fmt.Fprintf(&b, "   %s", text)
	}
	for _, l := range r.lines {
		fmt.Fprintf(&b, "%9s  %s %-9s %s\n", milliseconds(l.at), route(s, l), l.what, l.text)
	}
	if r.got.logged != "" {
		fmt.Fprintf(&b, "   access log: %s\n", r.got.logged)
	}
	if len(different) == 0 {
		fmt.Fprintf(&b, "   %s\n", as)
	}
	for _, text := range different {
		fmt.Fprintf(&b, "   NOT %s: %s\n", as, text)
	}
	b.WriteString("\n")
	return b.String()
}

// route shows where something goes: an arrow and, where what the client sees is
// not all there is to see, who is at which end of it.
func route(s scene, l line) string {
	switch {
	case s.by == "":
		return l.arrow
	case l.seen == atClient:
		return "client " + l.arrow + "         "
	default:
		return "       " + l.arrow + " backend "
	}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
