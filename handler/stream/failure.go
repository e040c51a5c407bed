package stream

import "errors"

// Reason says in one short machine-readable word why the proxy, and not the
// backend, ended a call. It travels to the client in the ReasonKey trailer.
type Reason string

// ReasonKey is the trailer that tells a local reply from a backend's.
const ReasonKey = "x-kitexproxy-error"

// The reasons of local replies. They are a contract: clients, dashboards and
// alerts match on them.
const (
	// NoRoute: no route matches the method.
	NoRoute Reason = "no-route"
	// BackendUnreachable: no instance of the cluster accepts a connection.
	BackendUnreachable Reason = "backend-unreachable"
	// BackendDisconnected: the connection to the backend was lost mid-call.
	BackendDisconnected Reason = "backend-disconnected"
	// BackendReset: the backend reset the stream instead of ending it.
	BackendReset Reason = "backend-reset"
	// BackendRefused: the backend did not start the call (REFUSED_STREAM,
	// GOAWAY), and sending it again was impossible or failed as well.
	BackendRefused Reason = "backend-refused"
	// BackendProtocol: what the backend sent is not gRPC.
	BackendProtocol Reason = "backend-protocol"
	// MessageTooLarge: a message exceeds the configured limit.
	MessageTooLarge Reason = "message-too-large"
	// RequestMalformed: the request ends inside a message.
	RequestMalformed Reason = "request-malformed"
	// TooManyStreams: the client's connection has more open calls than the
	// configured limit.
	TooManyStreams Reason = "too-many-streams"
	// Overloaded: the cluster has as many calls as it may, under way or waiting.
	Overloaded Reason = "overloaded"
	// DeadlinePassed: the client's deadline passed before the backend answered.
	DeadlinePassed Reason = "deadline"
	// RouteTimeout: the route's own limit on the call's duration passed.
	RouteTimeout Reason = "route-timeout"
	// ClientCanceled: the client cancelled or went away.
	ClientCanceled Reason = "client-cancelled"
	// Shutdown: the proxy is stopping and the grace time is over.
	Shutdown Reason = "shutdown"
	// Rejected: a filter, an interceptor or a director rejected the call.
	Rejected Reason = "rejected"
	// NoCredentials: the call has no credentials, or ones that are not valid.
	NoCredentials Reason = "unauthenticated"
	// CredentialsUnavailable: the credentials may be valid, but what they are verified
	// by is not there yet.
	CredentialsUnavailable Reason = "credentials-unavailable"
	// Forbidden: the caller may not make the call.
	Forbidden Reason = "forbidden"
	// RateLimited: the call, or its next message, is beyond a limit on rates or on
	// calls at a time.
	RateLimited Reason = "rate-limited"
	// MessageDropped: a filter dropped the one message that the call must have.
	MessageDropped Reason = "message-dropped"
	// Undecodable: a message is not of the type that filters of the method take.
	Undecodable Reason = "undecodable"
	// FilterFailed: a filter panicked, or decided something of no sense.
	FilterFailed Reason = "filter-failed"
	// ProxyInternal: a fault of the proxy's own.
	ProxyInternal Reason = "internal"
)

// Failure is a call's end that no backend decided: the proxy makes the status
// up and says why.
type Failure struct {
	Reason  Reason
	Code    Code
	Message string
	// Details is the serialised google.rpc.Status, with code and message in it, nil
	// for none.
	Details []byte
	// Unprocessed is true when the backend has certainly not begun the
	// call, so that sending it again cannot do anything twice.
	Unprocessed bool
	// Reset is the RST_STREAM code with which a backend ended the call, nil
	// if it did not.
	Reset *uint32
}

// CanceledByClient is the end of a call whose client has cancelled it, or has gone
// away. It must not be changed.
var CanceledByClient = &Failure{Reason: ClientCanceled, Code: Canceled, Message: "cancelled by the client"}

// Error returns reason and message.
func (f *Failure) Error() string { return string(f.Reason) + ": " + f.Message }

// Trailer returns the trailer that tells the client of the failure.
func (f *Failure) Trailer() *Trailer {
	return &Trailer{
		Status:   Status{Code: f.Code, Message: f.Message, Details: f.Details},
		Metadata: Metadata{{Key: ReasonKey, Value: string(f.Reason)}},
		Reset:    f.Reset,
	}
}

// AsFailure returns the Failure in err's chain, or one of reason internal
// that carries err's text: whatever went wrong, the client gets a status.
func AsFailure(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Reason: ProxyInternal, Code: Internal, Message: err.Error()}
}
