package tracing

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Options is what traces are made of and where they go.
type Options struct {
	// Endpoint is the URL of the receiver: http for plaintext, https for TLS. With GRPC
	// its path has no meaning; with HTTP it is "/v1/traces" unless the URL has another.
	Endpoint string
	// Protocol is GRPC or HTTP, "" for GRPC.
	Protocol Protocol
	// Headers go with what is sent to the receiver, credentials for example.
	Headers map[string]string
	// CAFile is a PEM file of what the receiver's certificate is verified by, "" for
	// what the system has. It is read once.
	CAFile string
	// Timeout limits one delivery, with what is tried again of it; 0 is 10 s.
	Timeout time.Duration
	// SamplePercent is how many of the calls are traced that come without a decision of
	// their own, 0 to 100.
	SamplePercent float64
	// Propagate is what is read of requests and written for backends. The first that a
	// request has, in a form that is valid, is the call's parent.
	Propagate []Format
	// ServiceName is what the proxy is called in traces, "" for "kitexproxy".
	ServiceName string
	// Attributes are more of what traces say of the proxy.
	Attributes map[string]string
	// Queue is how many spans may wait to be delivered, 0 for 2048. More are dropped.
	Queue int
	// Logger gets what is wrong with the receiver. It must be set.
	Logger *slog.Logger
}

// Protocol is one that OTLP is spoken over.
type Protocol string

// The protocols.
const (
	GRPC Protocol = "grpc"
	HTTP Protocol = "http"
)

const (
	defaultTimeout     = 10 * time.Second
	defaultQueue       = 2048
	defaultServiceName = "kitexproxy"
	httpPath           = "/v1/traces" // of the OTLP specification
)

// Check returns what New would refuse of options, and leaves nothing running.
func Check(o Options) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	_, err = o.roots()
	return err
}

// complete returns the options with their defaults, or what is wrong with them.
func (o Options) complete() (Options, error) {
	if o.Protocol == "" {
		o.Protocol = GRPC
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Queue == 0 {
		o.Queue = defaultQueue
	}
	if o.ServiceName == "" {
		o.ServiceName = defaultServiceName
	}
	return o, errors.Join(o.checkEndpoint(), o.checkNumbers(), o.checkFormats())
}

func (o *Options) checkEndpoint() error {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("endpoint %q is not a URL of a receiver; write one such as \"http://127.0.0.1:4317\"", o.Endpoint)
	}
	if o.CAFile != "" && u.Scheme != "https" {
		return fmt.Errorf("a CA file needs TLS, and endpoint %q has none; begin it with https", o.Endpoint)
	}
	if o.Protocol != GRPC && o.Protocol != HTTP {
		return fmt.Errorf("protocol %q is not known; write %q or %q", o.Protocol, GRPC, HTTP)
	}
	return nil
}

func (o *Options) checkNumbers() error {
	switch {
	case !(o.SamplePercent >= 0 && o.SamplePercent <= 100): // which NaN is not, either
		return fmt.Errorf("%v percent of calls cannot be sampled; write a number from 0 to 100", o.SamplePercent)
	case o.Timeout < 0:
		return fmt.Errorf("timeout %s is negative; write a positive one, or 0 for %s", o.Timeout, defaultTimeout)
	case o.Queue < 0:
		return fmt.Errorf("a queue of %d spans is negative; write a positive number, or 0 for %d", o.Queue, defaultQueue)
	}
	return nil
}

func (o *Options) checkFormats() error {
	for i, f := range o.Propagate {
		if f != Baggage && formats[f] == nil {
			return fmt.Errorf("propagate: %q is not known; write %s", f, strings.Join(formatNames, ", "))
		}
		if slices.Contains(o.Propagate[:i], f) {
			return fmt.Errorf("propagate: %q is there twice; remove one", f)
		}
	}
	return nil
}

// roots returns what the receiver's certificate is verified by, nil for what the system
// has.
func (o *Options) roots() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s has no certificate in PEM", o.CAFile)
	}
	return pool, nil
}
