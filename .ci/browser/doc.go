// Package browser has pages in a headless Chromium use the gateway: streams by EventSource
// and by WebSocket. It is a module of its own so that users of the proxy do not get what
// drives a browser.
package browser
