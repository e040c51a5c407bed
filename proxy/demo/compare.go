package demo

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// differences returns what arrived otherwise than it should have; none if
// everything is as sent.
func differences(want, got outcome) []string {
	var all []string
	all = append(all, metadataDifferences("header", want.header, got.header)...)
	all = append(all, replyDifferences(want.replies, got.replies)...)
	all = append(all, metadataDifferences("trailer", want.trailer, got.trailer)...)
	if want.code != got.code || want.message != got.message {
		all = append(all, difference("status", showStatus(want.code, want.message), showStatus(got.code, got.message)))
	}
	return all
}

func difference(what, want, got string) string {
	return fmt.Sprintf("%s: want %s, got %s", what, want, got)
}

func replyDifferences(want, got []*echo.EchoReply) []string {
	var all []string
	for i := range max(len(want), len(got)) {
		what := fmt.Sprintf("reply %d", i+1)
		switch {
		case i >= len(got):
			all = append(all, difference(what, showReply(want[i]), "none"))
		case i >= len(want):
			all = append(all, difference(what, "none", showReply(got[i])))
		case !sameReply(want[i], got[i]):
			all = append(all, replyDifference(what, want[i], got[i]))
		}
	}
	return all
}

func sameReply(a, b *echo.EchoReply) bool {
	return a.Message == b.Message && a.Sequence == b.Sequence && bytes.Equal(a.Payload, b.Payload)
}

// replyDifference says where payloads differ, because the part of them that is
// shown need not.
func replyDifference(what string, want, got *echo.EchoReply) string {
	text := difference(what, showReply(want), showReply(got))
	if bytes.Equal(want.Payload, got.Payload) {
		return text
	}
	return fmt.Sprintf("%s; payloads differ from byte %d on", text, commonLength(want.Payload, got.Payload))
}

func commonLength(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// metadataDifferences compares the demo's own keys. Others are the transport's,
// such as content-type.
func metadataDifferences(what string, want, got metadata.MD) []string {
	keys := map[string]bool{}
	for _, md := range []metadata.MD{want, got} {
		for key := range md {
			if strings.HasPrefix(key, echoPrefix) {
				keys[key] = true
			}
		}
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Equal(want[key], got[key]) {
			all = append(all, difference(what+" "+key, showValues(key, want[key]), showValues(key, got[key])))
		}
	}
	return all
}

func showValues(key string, values []string) string {
	if len(values) == 0 {
		return "none"
	}
	shown := make([]string, len(values))
	for i, value := range values {
		shown[i] = showValue(key, value)
	}
	return strings.Join(shown, ", ")
}
