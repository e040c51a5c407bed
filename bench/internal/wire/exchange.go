package wire

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/grpc/mem"
)

// Function is the path that requests of functions have. The proxy of functions takes it off.
const Function = "/function/echo"

// An Exchange is a request in HTTP and the reply there should be to it. Callers do not share one.
type Exchange struct {
	Method, Path, Type string
	// Query and Body are of the request with that stamp; nil is none.
	Query func(stamp uint64) string
	Body  func(stamp uint64) []byte
	Check func(reply []byte, stamp uint64) error

	reply bytes.Buffer
}

// OrderJSON is a unary call in JSON.
func OrderJSON() *Exchange {
	order := NewOrder()
	return &Exchange{Method: http.MethodPost, Path: Unary, Type: "application/json", Body: order.Stamp, Check: order.Check}
}

// PostFunction is a request with a payload, which comes back.
func PostFunction(size int) *Exchange {
	payload := NewPayload(size)
	return &Exchange{
		Method: http.MethodPost, Path: Function, Type: "application/octet-stream",
		Body:  func(stamp uint64) []byte { return payload.Stamp(stamp) },
		Check: payload.checkBytes,
	}
}

// GetFunction is a request for a payload.
func GetFunction(size int) *Exchange {
	return &Exchange{
		Method: http.MethodGet, Path: Function,
		Query: func(stamp uint64) string { return fmt.Sprintf("?size=%d&stamp=%d", size, stamp) },
		Check: NewPayload(size).checkBytes,
	}
}

func (p Payload) checkBytes(reply []byte, stamp uint64) error {
	return p.Check(mem.BufferSlice{mem.SliceBuffer(reply)}, stamp)
}

// Do makes the request to addr and checks the reply.
func (e *Exchange) Do(ctx context.Context, client *http.Client, addr string, stamp uint64) error {
	request, err := e.request(ctx, addr, stamp)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	e.reply.Reset()
	if _, err := e.reply.ReadFrom(io.LimitReader(response.Body, MaxMessage)); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200q", response.Status, e.reply.Bytes())
	}
	return e.Check(e.reply.Bytes(), stamp)
}

func (e *Exchange) request(ctx context.Context, addr string, stamp uint64) (*http.Request, error) {
	url := "http://" + addr + e.Path
	if e.Query != nil {
		url += e.Query(stamp)
	}
	if e.Body == nil {
		return http.NewRequestWithContext(ctx, e.Method, url, nil)
	}
	request, err := http.NewRequestWithContext(ctx, e.Method, url, bytes.NewReader(e.Body(stamp)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", e.Type)
	return request, nil
}

// NewHTTPClient keeps as many connections as there are callers, and asks for nothing that they did not.
func NewHTTPClient(callers int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers, DisableCompression: true}}
}
