package inproc

import (
	"log/slog"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Option changes how a Conn is built.
type Option func(*options)

type options struct {
	userAgent string
	logger    *slog.Logger
	calls     []grpc.CallOption
}

const defaultUserAgent = "kitexproxy"

// WithUserAgent sets the user-agent of calls, "" for none. Default "kitexproxy".
func WithUserAgent(name string) Option {
	return func(o *options) { o.userAgent = name }
}

// WithCallOptions sets options of all calls, behind which those of a call come:
// limits of messages, and by grpc.CallAuthority the :authority.
func WithCallOptions(opts ...grpc.CallOption) Option {
	return func(o *options) { o.calls = append(o.calls, opts...) }
}

// WithLogger sets where panics of calls are reported. Default slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.logger = l }
}

// callOptions are what is made of the grpc.CallOptions of a call.
type callOptions struct {
	authority           string
	maxSend, maxReceive int // bytes of a message
	header, trailer     *metadata.MD
	onFinish            []func(error)
}

// defaultCallOptions are grpc-go's, but for the authority, which is that of the
// address there.
var defaultCallOptions = callOptions{authority: "kitexproxy", maxSend: math.MaxInt32, maxReceive: 4 << 20}

// apply takes in what opts say. Those that there is no use for here are ignored,
// if a call without what they ask for is as good.
func (o *callOptions) apply(opts []grpc.CallOption) error {
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			o.header = opt.HeaderAddr
		case grpc.TrailerCallOption:
			o.trailer = opt.TrailerAddr
		case grpc.OnFinishCallOption:
			o.onFinish = append(o.onFinish[:len(o.onFinish):len(o.onFinish)], opt.OnFinish)
		case grpc.MaxRecvMsgSizeCallOption:
			o.maxReceive = opt.MaxRecvMsgSize
		case grpc.MaxSendMsgSizeCallOption:
			o.maxSend = opt.MaxSendMsgSize
		case grpc.AuthorityOverrideCallOption:
			o.authority = opt.Authority
		case grpc.PerRPCCredsCallOption, grpc.ContentSubtypeCallOption, grpc.ForceCodecCallOption,
			grpc.ForceCodecV2CallOption, grpc.CustomCodecCallOption:
			return status.Errorf(codes.Internal, "a call inside the process has no use for %T: "+
				"set credentials as metadata, and give messages as proto.Message", opt)
		}
	}
	return nil
}

// done tells who wants to know that the call has ended with err, nil for OK. in is
// nil for a call that has not begun.
func (o *callOptions) done(in *call, err error) {
	o.fill(in)
	o.finished(err)
}

// fill tells headers and trailers to where they are wanted.
func (o *callOptions) fill(in *call) {
	if in == nil || o.header == nil && o.trailer == nil {
		return
	}
	header, trailer := in.response.metadata()
	if o.header != nil {
		*o.header = header
	}
	if o.trailer != nil {
		*o.trailer = trailer
	}
}

func (o *callOptions) finished(err error) {
	for _, f := range o.onFinish {
		f(err)
	}
}
