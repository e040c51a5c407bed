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
// behind it listens, and writes a transcript to out. It returns nil if
// everything arrived as it was sent; otherwise the transcript says what did
// not.
func Play(ctx context.Context, out io.Writer, address string) error {
	c, err := newClient(address)
	if err != nil {
		return err
	}
	defer c.close()
	all := scenes()
	var differing []string
	for i, s := range all {
		r := c.play(ctx, s)
		if err := errors.Join(ctx.Err(), c.dialer.failure()); err != nil {
			return err
		}
		different := differences(s.want(), r.got)
		if len(different) > 0 {
			differing = append(differing, fmt.Sprintf("%q", s.title))
		}
		if _, err := io.WriteString(out, transcript(i+1, s, r, different)); err != nil {
			return fmt.Errorf("write the transcript: %w", err)
		}
	}
	if len(differing) > 0 {
		return fmt.Errorf("%d of %d calls did not arrive as sent: %s", len(differing), len(all), strings.Join(differing, ", "))
	}
	_, err = fmt.Fprintf(out, "%d of %d calls arrived as sent\n", len(all), len(all))
	return err
}

// transcript returns what happened in a scene, for people to read.
func transcript(number int, s scene, r *record, different []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d. %s\n", number, s.title)
	fmt.Fprintf(&b, "   /kitexproxy.echo.v1.Echo/%s\n", s.method)
	for _, l := range r.lines {
		fmt.Fprintf(&b, "%9s  %s %-9s %s\n", milliseconds(l.at), l.arrow, l.what, l.text)
	}
	if len(different) == 0 {
		b.WriteString("   as sent\n")
	}
	for _, text := range different {
		fmt.Fprintf(&b, "   NOT as sent: %s\n", text)
	}
	b.WriteString("\n")
	return b.String()
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
