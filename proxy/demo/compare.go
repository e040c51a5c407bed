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
	all = append(all, listDifferences("reply", want.replies, got.replies, showReply, replyDifference)...)
	all = append(all, metadataDifferences("trailer", want.trailer, got.trailer)...)
	if want.code != got.code || want.message != got.message {
		all = append(all, difference("status", showStatus(want.code, want.message), showStatus(got.code, got.message)))
	}
	return all
}

// backendDifferences is differences for what the backend has got and sent.
func backendDifferences(want, got outcome) []string {
	return append(
		listDifferences("backend's request", want.arrived, got.arrived, showRequest, requestDifference),
		listDifferences("backend's reply", want.left, got.left, showReply, replyDifference)...,
	)
}

// logDifferences returns what a line of the access log should have, and has not.
func logDifferences(want []string, line string) []string {
	var all []string
	for _, text := range want {
		if !strings.Contains(line, text) {
			all = append(all, difference("access log", text, line))
		}
	}
	return all
}

func difference(what, want, got string) string {
	return fmt.Sprintf("%s: want %s, got %s", what, want, got)
}

// listDifferences compares messages. differ says how two of them differ, "" if
// they do not.
func listDifferences[M any](name string, want, got []M, show func(M) string, differ func(what string, want, got M) string) []string {
	var all []string
	for i := range max(len(want), len(got)) {
		what := fmt.Sprintf("%s %d", name, i+1)
		switch {
		case i >= len(got):
			all = append(all, difference(what, show(want[i]), "none"))
		case i >= len(want):
			all = append(all, difference(what, "none", show(got[i])))
		default:
			if text := differ(what, want[i], got[i]); text != "" {
				all = append(all, text)
			}
		}
	}
	return all
}

func requestDifference(what string, want, got *echo.EchoRequest) string {
	if want.Message == got.Message && want.Count == got.Count && want.FailWith == got.FailWith && bytes.Equal(want.Payload, got.Payload) {
		return ""
	}
	return payloadDifference(difference(what, showRequest(want), showRequest(got)), want.Payload, got.Payload)
}

func replyDifference(what string, want, got *echo.EchoReply) string {
	if want.Message == got.Message && want.Sequence == got.Sequence && bytes.Equal(want.Payload, got.Payload) {
		return ""
	}
	return payloadDifference(difference(what, showReply(want), showReply(got)), want.Payload, got.Payload)
}

// payloadDifference adds where payloads differ, because the part of them that is
// shown need not.
func payloadDifference(text string, want, got []byte) string {
	if bytes.Equal(want, got) {
		return text
	}
	return fmt.Sprintf("%s; payloads differ from byte %d on", text, commonLength(want, got))
}

func commonLength(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// metadataDifferences compares the demo's own keys, and the one that the proxy
// adds to calls that it ends. Others are the transport's, such as content-type.
func metadataDifferences(what string, want, got metadata.MD) []string {
	keys := map[string]bool{}
	for _, md := range []metadata.MD{want, got} {
		for key := range md {
			if strings.HasPrefix(key, echoPrefix) || key == reasonTrailer {
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
