package demo

import (
	"fmt"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// maxShown is how many bytes of something long are shown.
const maxShown = 16

func showRequest(req *echo.EchoRequest) string {
	text := showMessage(req.Message, req.Payload)
	if req.Count != 0 {
		text += fmt.Sprintf(", count %d", req.Count)
	}
	if req.FailWith != 0 {
		text += fmt.Sprintf(", fail_with %s", codes.Code(req.FailWith))
	}
	return text
}

func showReply(reply *echo.EchoReply) string {
	return fmt.Sprintf("#%d %s", reply.Sequence, showMessage(reply.Message, reply.Payload))
}

func showMessage(text string, payload []byte) string {
	shown := fmt.Sprintf("%q", text)
	if len(payload) > 0 {
		shown += ", payload " + showBytes(payload)
	}
	return shown
}

func showStatus(code codes.Code, message string) string {
	if code == codes.OK && message == "" {
		return "OK"
	}
	return fmt.Sprintf("%s (%d) %q", code, code, message)
}

func showValue(key, value string) string {
	if strings.HasSuffix(key, "-bin") {
		return showBytes([]byte(value))
	}
	return fmt.Sprintf("%q", value)
}

func showBytes(b []byte) string {
	if len(b) <= maxShown {
		return fmt.Sprintf("[% x]", b)
	}
	return fmt.Sprintf("[% x ...] (%d bytes)", b[:maxShown], len(b))
}
