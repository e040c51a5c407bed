package filter

import (
	"fmt"
	"reflect"

	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Service is what is known of a service: its methods, their kinds and the types
// of their messages. Make it with KitexService or ProtoService.
type Service struct {
	name    string
	methods map[string]methodTypes // by full method name
	err     error                  // why it cannot be used
}

type methodTypes struct {
	req, resp                    reflect.Type // structs
	clientStreams, serverStreams bool
}

// Name returns the full name of the service, "package.Service".
func (s *Service) Name() string { return s.name }

// KitexService returns the service of which `go tool kitex` has generated info,
// as the NewServiceInfo of its package returns it. What is wrong with it is
// NewSet's to say.
func KitexService(info *serviceinfo.ServiceInfo) *Service {
	s := &Service{name: info.ServiceName, methods: make(map[string]methodTypes)}
	if pkg := packageOf(info); pkg != "" {
		s.name = pkg + "." + info.ServiceName
	}
	if info.PayloadCodec != serviceinfo.Protobuf {
		s.err = fmt.Errorf("service %s: its messages are %v, not protobuf", s.name, info.PayloadCodec)
		return s
	}
	if len(info.Methods) == 0 { // as in the infos for some kinds of client
		s.err = fmt.Errorf("service %s: its ServiceInfo has no methods; use the NewServiceInfo of its package", s.name)
		return s
	}
	for name, m := range info.Methods {
		req, okReq := messageField(m.NewArgs(), "Req")
		resp, okResp := messageField(m.NewResult(), "Success")
		if !okReq || !okResp {
			s.err = fmt.Errorf("service %s: method %s is not as the kitex of this proxy generates it; generate it anew", s.name, name)
			return s
		}
		mode := m.StreamingMode()
		s.methods["/"+s.name+"/"+name] = methodTypes{
			req: req, resp: resp,
			clientStreams: mode == serviceinfo.StreamingClient || mode == serviceinfo.StreamingBidirectional,
			serverStreams: mode == serviceinfo.StreamingServer || mode == serviceinfo.StreamingBidirectional,
		}
	}
	return s
}

// packageOf returns the protobuf package of a service.
func packageOf(info *serviceinfo.ServiceInfo) string {
	if pkg, ok := info.Extra["PackageName"].(string); ok {
		return pkg
	}
	return info.PackageName
}

// messageField returns the struct that a field of generated arguments or results
// points to.
func messageField(v any, name string) (reflect.Type, bool) {
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	f, ok := t.Elem().FieldByName(name)
	if !ok || f.Type.Kind() != reflect.Pointer || f.Type.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	return f.Type.Elem(), true
}

// ProtoService returns the service of a descriptor, with the types that
// protoc-gen-go has generated for its messages. Their package has to be part
// of the program; what is missing is NewSet's to say.
func ProtoService(d protoreflect.ServiceDescriptor) *Service {
	s := &Service{name: string(d.FullName()), methods: make(map[string]methodTypes)}
	for i := range d.Methods().Len() {
		m := d.Methods().Get(i)
		req, errReq := goType(m.Input())
		resp, errResp := goType(m.Output())
		for _, err := range []error{errReq, errResp} {
			if err != nil {
				s.err = fmt.Errorf("service %s: method %s: %w", s.name, m.Name(), err)
				return s
			}
		}
		s.methods["/"+s.name+"/"+string(m.Name())] = methodTypes{
			req: req, resp: resp, clientStreams: m.IsStreamingClient(), serverStreams: m.IsStreamingServer(),
		}
	}
	return s
}

// goType returns the struct that is generated for a message.
func goType(d protoreflect.MessageDescriptor) (reflect.Type, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, fmt.Errorf("the program has no Go type for message %s: %w", d.FullName(), err)
	}
	return reflect.TypeOf(t.Zero().Interface()).Elem(), nil
}
