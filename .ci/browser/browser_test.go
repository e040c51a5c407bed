package browser

import (
	"context"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// page is an empty page in a browser, on which scripts run.
type page struct {
	ctx context.Context
	t   *testing.T
}

// openPage opens a page. The browser ends with the test.
func openPage(t *testing.T, url string) *page {
	t.Helper()
	ctx, end := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // it also runs as root and in containers
		chromedp.Flag("disable-features", "BackForwardCache"), // a page that is left is to be gone
	)...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	ctx, end = context.WithTimeout(ctx, 2*patient) // or its end would be that of the calls awaited
	t.Cleanup(end)
	p := &page{ctx, t}
	p.open(url)
	return p
}

func (p *page) open(url string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Navigate(url))
	require.NoError(p.t, err)
}

// run returns what a script's promise comes to: what the page saw, in order.
func (p *page) run(script string) []string {
	p.t.Helper()
	saw, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](helpers+script, chromedp.EvalAwaitPromise))
	require.NoError(p.t, err)
	return saw
}

// helpers are what the scripts have in common. watch reads a board's events to their end or
// their error, or up to enough, and tells the backend of each message that has come.
const helpers = `
function see(text) {
	return fetch("/v1/seen", {method: "POST", body: JSON.stringify({text})});
}
function watch(name, enough = Infinity) {
	return new Promise(resolve => {
		const saw = [], source = new EventSource("/v1/boards/" + name);
		source.onopen = () => saw.push("open");
		source.onmessage = e => {
			const text = JSON.parse(e.data).text;
			saw.push(text);
			see(text);
			if (saw.length > enough) resolve(saw);
		};
		source.addEventListener("end", e => { saw.push("end " + e.data); source.close(); resolve(saw); });
		source.addEventListener("error", e => {
			const status = e.data ? JSON.parse(e.data) : {};
			saw.push("error " + status.code + " " + status.message);
			source.close();
			resolve(saw);
		});
	});
}
function talk(url, protocols, texts) {
	return new Promise(resolve => {
		const saw = [], socket = new WebSocket(url, protocols);
		const next = () => socket.send(texts.length ? JSON.stringify({text: texts.shift()}) : "");
		socket.onopen = () => { saw.push("open " + socket.protocol); next(); };
		socket.onmessage = e => { saw.push(e.data.replaceAll(" ", "")); if (!("error" in JSON.parse(e.data))) next(); };
		socket.onclose = e => { saw.push("close " + e.code + " " + e.reason); resolve(saw); };
	});
}
`

// TestEventSourceSeesMessagesAsTheyAreSent: the backend sends the second message only when
// the page has told it, by another call, that it has seen the first.
func TestEventSourceSeesMessagesAsTheyAreSent(t *testing.T) {
	_, backend := startBoard(t)
	p := openPage(t, startProxy(t, backend, servePages(t))+"/function/page/")
	assert.Equal(t, []string{"open", "one", "two\nlines", "end {}"}, p.run(`watch("ending")`))
	assert.Equal(t, []string{"open", "one", "two\nlines", "error 15 the board is gone"}, p.run(`watch("failing")`))
}

// TestLeavingThePageEndsItsCalls: both that of an EventSource and that of a WebSocket.
func TestLeavingThePageEndsItsCalls(t *testing.T) {
	b, backend := startBoard(t)
	url := startProxy(t, backend, servePages(t)) + "/function/page/"
	p := openPage(t, url)
	assert.Equal(t, []string{"open", "one", "two\nlines"}, p.run(`watch("endless", 2)`))
	p.open(url + "elsewhere")
	b.awaitLeft(t, "endless")
	assert.Equal(t, []string{"open"}, p.run(`new Promise(resolve => {
		const socket = new WebSocket("/browser.v1.Board/Talk");
		socket.onopen = () => resolve(["open"]);
	})`))
	p.open(url)
	b.awaitLeft(t, "talk")
}

func TestWebSocketIsABidiCall(t *testing.T) {
	_, backend := startBoard(t)
	p := openPage(t, startProxy(t, backend, servePages(t))+"/function/page/")
	assert.Equal(t, []string{"open ", `{"result":{"text":"[]a"}}`, `{"result":{"text":"[]b"}}`, "close 1000 "},
		p.run(`talk("/browser.v1.Board/Talk", [], ["a", "b"])`))
	assert.Equal(t, []string{"open bearer", `{"result":{"text":"[Bearersecret]a"}}`, "close 1000 "},
		p.run(`talk("/browser.v1.Board/Talk", ["bearer", "secret"], ["a"])`))
	saw := p.run(`talk("/browser.v1.Board/Talk", [], [7])`)
	require.Len(t, saw, 3)
	assert.Contains(t, saw[1], `{"error":{"code":3,`)
	assert.Contains(t, saw[2], "close 1008 gRPC code INVALID_ARGUMENT")
}

// TestOtherSitesGetNothing: a page of another origin can neither open a WebSocket nor read
// events, nor the answer of a call.
func TestOtherSitesGetNothing(t *testing.T) {
	_, backend := startBoard(t)
	pages := servePages(t)
	url := startProxy(t, backend, pages)
	p := openPage(t, pages)
	assert.Equal(t, []string{"close 1006 "}, p.run(`talk("`+url+`/browser.v1.Board/Talk", [], ["a"])`))
	assert.Equal(t, []string{"error"}, p.run(`new Promise(resolve => {
		const source = new EventSource("`+url+`/v1/boards/ending");
		source.onmessage = () => { resolve(["message"]); source.close(); };
		source.onerror = () => { resolve(["error"]); source.close(); };
	})`))
	assert.Equal(t, []string{"TypeError"}, p.run(`fetch("`+url+`/openapi.json").then(() => ["read"], e => [e.name])`))
}
